"""``python -m mptvc`` is the ``mptvc`` command."""

from mptvc.cli import main

if __name__ == "__main__":
    main()
