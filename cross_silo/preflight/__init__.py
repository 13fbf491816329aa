"""Checks of a role's machine and files before it is started; without MindSpore, and each in a fraction of a second."""
