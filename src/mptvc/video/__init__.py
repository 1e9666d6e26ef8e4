"""Video files through PyAV."""
