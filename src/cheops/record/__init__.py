"""The log of a resource: operations, their order, what concurrent ones mean, what each site has. Pure."""
