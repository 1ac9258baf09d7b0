"""What programs are told on their command line, and how they serve until told to stop."""
