"""The former address of the recorder, now ``python -m helpers.evidence.recorder``."""

from helpers.evidence.recorder import main

if __name__ == "__main__":
    main()
