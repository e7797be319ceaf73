# Bad inputs that take processes and files.
