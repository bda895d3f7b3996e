"""The content type of a file, by the extension of its name.

A fixed list, so that every machine answers alike and no content is ever sniffed. What a file is
sent with beside its type (disposition, sandbox) is decided in the web room.
"""

from __future__ import annotations

DEFAULT = "application/octet-stream"
"""For every extension that is not listed (RFC 2046, section 4.5.1)."""

_PLAIN = "text/plain"

#: Line-based formats without a registered type of their own: as plain text a browser shows them.
_PLAIN_EXTENSIONS = """
    txt text log out err list lst dat
    fasta fa fas fna ffn faa frn fastq fq sto stockholm aln clustal clw phy phylip nwk newick tree
    gff gff3 gtf bed bedgraph wig vcf sam gb gbk genbank embl blast hmm pssm psl maf
    gro top itp mdp ndx xvg psf prm par inp dlp pqr pdbqt dssp mtx
    ini cfg conf toml env properties
    py r rmd jl pl rb lua sh bash zsh awk sed c h cc cpp cxx hpp f f77 f90 f95 for java go rs m sql tex bib
    diff patch dot gv
"""

_TYPES = {
    # Tables and structured text
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "tab": "text/tab-separated-values",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "json": "application/json",
    "geojson": "application/geo+json",
    "ipynb": "application/x-ipynb+json",
    "ndjson": "application/x-ndjson",
    "jsonl": "application/x-ndjson",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "xml": "application/xml",
    "xsd": "application/xml",
    "sbml": "application/sbml+xml",
    "mzml": "application/xml",
    # Pictures
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "ico": "image/vnd.microsoft.icon",
    # Documents
    "pdf": "application/pdf",
    "ps": "application/postscript",
    "eps": "application/postscript",
    "rtf": "application/rtf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xls": "application/vnd.ms-excel",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    # Molecules (the "chemical" names in use since Rzepa et al., J. Chem. Inf. Comput. Sci. 38, 976, 1998)
    "pdb": "chemical/x-pdb",
    "ent": "chemical/x-pdb",
    "cif": "chemical/x-cif",
    "mmcif": "chemical/x-mmcif",
    "mol": "chemical/x-mdl-molfile",
    "sdf": "chemical/x-mdl-sdfile",
    "sd": "chemical/x-mdl-sdfile",
    "mol2": "chemical/x-mol2",
    "xyz": "chemical/x-xyz",
    "cml": "chemical/x-cml",
    "smi": "chemical/x-daylight-smiles",
    # Data
    "h5": "application/x-hdf5",
    "hdf5": "application/x-hdf5",
    "nc": "application/x-netcdf",
    "fits": "application/fits",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
    "sqlite": "application/vnd.sqlite3",
    "sqlite3": "application/vnd.sqlite3",
    "wasm": "application/wasm",
    # Packed
    "zip": "application/zip",
    "gz": "application/gzip",
    "tgz": "application/gzip",
    "tar": "application/x-tar",
    "bz2": "application/x-bzip2",
    "xz": "application/x-xz",
    "zst": "application/zstd",
    "7z": "application/x-7z-compressed",
    # Sound and film
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "video/mp4",
    "webm": "video/webm",
    **dict.fromkeys(_PLAIN_EXTENSIONS.split(), _PLAIN),
}


def content_type(name: str) -> str:
    """The value of ``Content-Type`` for a file of this name (or path); text carries its charset.

    The last extension counts, in any case: ``reads.FASTQ.gz`` is gzip. A leading dot makes no
    extension.
    """
    stem, dot, extension = name.rpartition("/")[2].rpartition(".")
    kind = _TYPES.get(extension.lower(), DEFAULT) if stem and dot else DEFAULT
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
