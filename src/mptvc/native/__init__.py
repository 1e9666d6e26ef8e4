"""Compiled kernels for processors: the integers of the modules that they stand in for, many times faster.

They are an option. Where no compiler was at hand when the package was built, or a tensor is on another
device, the tensor code does the work, and files and pictures are the same.
"""
