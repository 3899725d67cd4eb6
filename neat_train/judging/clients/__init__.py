"""What a judge may be: a server's model or a local one; `load` opens the one that is asked for."""
