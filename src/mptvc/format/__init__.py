"""What a file is: geometry, header, packets, and how bytes are read and written."""
