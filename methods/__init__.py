"""The methods. Nothing in here is imported to list the methods beyond each module's own class."""
