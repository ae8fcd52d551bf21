"""Stands in for Colab's own package: that it can be imported is all a notebook may rely on."""
