"""A dataset in the forms that other trainers and tools read.

`preferences` chooses who is preferred to whom, `trl`, `rrhf` and `responses` turn a record into rows, `formats` names
them, `write` puts rows on the disk, `hub` on the Hugging Face hub, and `run` does all of it in one pass.
"""
