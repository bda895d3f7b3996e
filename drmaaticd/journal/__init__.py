"""TinyDB tables in memory whose changes are appended to a journal, which is folded into a snapshot.

`tables` is the face (TinyDB's), `storage` decides when what is written, `buffer` holds what is not yet
on the disk, `segments` and `snapshot` are the two kinds of files, `recovery` reads them back.
"""
