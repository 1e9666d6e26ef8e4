"""``python -m mptvc`` is the ``mptvc`` command."""

from mptvc.cli.main import main

if __name__ == "__main__":
    main()
