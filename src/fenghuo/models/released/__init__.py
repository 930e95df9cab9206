"""Files of other frameworks → named arrays, and back. None of the readers needs the framework that wrote the file."""
