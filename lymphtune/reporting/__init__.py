"""What a run found, as people look at it: one page for a browser, its figures and tables as files of their own."""
