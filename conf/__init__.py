"""The config tree, mapped into the package as cfexp.conf so that an installed cfexp finds it from
any directory.
"""
