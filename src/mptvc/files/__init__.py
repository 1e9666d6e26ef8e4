"""What people do with ``.mpt`` files."""
