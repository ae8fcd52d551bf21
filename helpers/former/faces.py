"""The former address of the training of the faces' ruler, now ``python -m helpers.measure.faces``."""

from helpers.measure.faces import main

if __name__ == "__main__":
    main()
