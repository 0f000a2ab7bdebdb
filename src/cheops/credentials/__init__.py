"""The site's own credentials for its services, a file for each technology. None of it writes anything to a disk."""
