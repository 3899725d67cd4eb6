"""What a verb can be told, each option declared once: the command line, settings files and Python read it from here."""
