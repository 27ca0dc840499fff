"""`python -m onebeat` is `onebeat`."""

from onebeat.cli import main

if __name__ == "__main__":
    main()
