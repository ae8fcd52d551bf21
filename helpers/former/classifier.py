"""The former address of the training of the digits' ruler, now ``python -m helpers.measure.digits``."""

from helpers.measure.digits import main

if __name__ == "__main__":
    main()
