"""A plugin of python-openstackclient: a scope for every command. See `plugin` for how it gets there."""
