"""A dataset in the forms that other trainers and tools read.

`preferences` chooses who is preferred to whom, `trl` and `formats` turn a record into rows and name the forms, `write`
puts rows on the disk, `hub` on the Hugging Face hub, and `export` does all of it in one pass.
"""
