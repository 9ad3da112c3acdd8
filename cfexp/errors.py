class InputError(ValueError):
    """Something that the user gave is wrong: a path, a file, a setting.

    The message is one line that says what came, what was expected and what to do. The entry points
    print that line and stop with exit code 2; every other exception is a bug of ours and keeps its
    traceback.

    >>> from cfexp import InputError, load_explainer
    >>> try:
    ...     load_explainer("nothing")
    ... except InputError as error:
    ...     print(str(error)[:17])
    nothing is no run
    """
