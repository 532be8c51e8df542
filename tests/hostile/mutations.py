"What is done to a good file: by chance, by what any file may turn out to be, and by what hurts its own format."

import bz2
import gzip
import io
import json
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

Change = Callable[[Path], object]  # spoils a file where it lies; None: it cannot
Spoilt = bytes | Callable[[], bytes]  # what a file becomes; a function where it is long to make
MANY = 10**6
SECRET = "../secret.bin"           # beside the folder of each file; nothing of it may become data

# ── by chance ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def chances(data: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    "Flips of bits, in the first bytes and anywhere; ends cut off; blocks lost, repeated and exchanged."
    rng = np.random.default_rng(seed)
    for name, end in (("bit flipped in the header", min(128, len(data))), ("bit flipped", len(data))):
        for at in rng.integers(0, end, count):
            spoilt = bytearray(data)
            spoilt[at] ^= 1 << rng.integers(0, 8)
            yield name, bytes(spoilt)
    for at in rng.integers(0, len(data), count): yield "cut short", data[:at]
    a, b = sorted(rng.integers(0, len(data), 2).tolist())
    yield "block lost", data[:a] + data[b:]
    yield "block repeated", data[:b] + data[a:]
    yield "block of zeros", data[:a] + bytes(b - a) + data[b:]
    yield "bytes after the end", data + rng.bytes(64)


def whatever(data: bytes) -> Iterator[tuple[str, bytes]]:
    "What a file of any name may hold."
    yield "empty", b""
    yield "zeros", bytes(len(data))
    yield "noise", np.random.default_rng(0).bytes(4096)
    yield "a web page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    yield "packed by gzip", gzip.compress(data)


def no_file(path: Path, how: str) -> None:
    path.unlink()
    if how == "a folder": path.mkdir()
    elif how == "a pipe": os.mkfifo(path)
    elif how == "a link to itself": path.symlink_to(path.name)
    elif how == "a link to an endless device": path.symlink_to("/dev/zero")
    elif how == "a link out of the folder": path.symlink_to(path.parent / os.path.relpath("/etc/hostname", path.parent))


NO_FILES = ("gone", "a folder", "a pipe", "a link to itself", "a link to an endless device")

# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _segment(byte: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(byte * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)


def deflated(byte: bytes, count: int, before: bytes = b"") -> bytes:
    "Raw deflate of `before` and `count` times a byte, as a segment of a mebibyte that is repeated: made at once."
    first, last = (zlib.compressobj(9, wbits=-15) for _ in range(2))
    start = first.compress(before) + first.flush(zlib.Z_FULL_FLUSH)
    return start + _segment(byte) * (count // 2**20) + last.compress(byte * (count % 2**20)) + last.flush()


def endless(byte: bytes, count: int) -> bytes:
    "The same as a zlib stream, with its checksum."
    value, prime = byte[0], 65521
    low = (1 + value * count) % prime
    high = (count + value * (count * (count + 1) // 2)) % prime
    return b"\x78\xda" + deflated(byte, count) + struct.pack(">I", high << 16 | low)


def endless_gzip(before: bytes, count: int) -> bytes:
    "`before` and zeros as a gzip file, with its checksum."
    crc, block = zlib.crc32(before), bytes(2**24)
    for _ in range(count // 2**24): crc = zlib.crc32(block, crc)
    crc = zlib.crc32(bytes(count % 2**24), crc)
    head = b"\x1f\x8b\x08" + bytes(7)
    return head + deflated(b"\0", count, before) + struct.pack("<II", crc, (len(before) + count) % 2**32)


def png(width: int, height: int, bits=8, colour=0, data: bytes | None = None, more=b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = zlib.compress(b"\0" * 64) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def pngs(good: bytes) -> dict[str, Spoilt]:
    after = good.index(b"IDAT") - 4
    text = lambda: chunk(b"zTXt", b"Comment\0\0" + endless(b"a", 300 * 2**20))
    profile = lambda: chunk(b"iCCP", b"x\0\0" + endless(b"a", 300 * 2**20))
    return {
        "a size beyond all": png(2**31 - 1, 2**31 - 1),
        "a size without pixels": png(0, 0),
        "one row too long": png(2**30, 1),
        "a size larger than its data": png(16000, 16000),
        "a bomb": lambda: png(16000, 16000, data=endless(b"\0", 16001 * 16000)),
        "as empty and large as may be": lambda: png(8192, 8192, data=endless(b"\0", 8192 * 8193)),
        "as empty and large as may be, of sixteen bits": lambda: png(8192, 8192, 16, data=endless(b"\0", 8192 * 16385)),
        "a bomb in colours": lambda: png(9000, 9000, colour=2, data=endless(b"\0", 9000 * 27001)),
        "a bomb of sixteen bits": lambda: png(9000, 9000, bits=16, colour=2, data=endless(b"\0", 9000 * 54001)),
        "a bomb of text": lambda: good[:after] + text() + good[after:],
        "a bomb of a profile": lambda: good[:after] + profile() + good[after:],
        "an impossible depth": png(8, 8, bits=3),
        "a palette without colours": png(8, 8, colour=3, data=zlib.compress(b"\0\1\2\3\4\5\6\7\7" * 8)),
        "100,000 chunks": good[:after] + chunk(b"tEXt", b"a\0b") * 100_000 + good[after:],
    }


def jpegs(good: bytes) -> dict[str, Spoilt]:
    frame = next(i for i in range(len(good) - 1) if good[i] == 0xFF and good[i + 1] in (0xC0, 0xC2))
    sized = lambda h, w: good[:frame + 5] + struct.pack(">HH", h, w) + good[frame + 9:]
    scan = good.index(b"\xff\xda")
    return {
        "a size beyond all": sized(65500, 65500),
        "a size larger than its data": sized(12000, 12000),
        "a size without pixels": sized(0, 0),
        "300 scans of a large picture": sized(6000, 6000)[:-2] + good[scan:-2] * 300 + b"\xff\xd9",
        "damaged notes of a camera": good[:2] + b"\xff\xe1\0\x20Exif\0\0II*\0\xff\xff\xff\xff" + b"\1" * 16 + good[2:],
        "a note without an end": good[:2] + b"\xff\xfe\xff\xff" + good[2:],
    }


def gifs(good: bytes) -> dict[str, Spoilt]:
    # a picture of one pixel, 50,000 times
    one = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return {
        "a size beyond all": good[:6] + struct.pack("<HH", 65535, 65535) + good[10:],
        "a size larger than its data": good[:6] + struct.pack("<HH", 12000, 12000) + good[10:],
        "50,000 pictures": good[:-1] + one * 50_000 + b";",
        "a picture outside of the canvas": re.sub(rb",\0\0\0\0", b",\xff\xff\xff\xff", good, count=1),
    }


def bmps(good: bytes) -> dict[str, Spoilt]:
    sized = lambda w, h: good[:18] + struct.pack("<ii", w, h) + good[26:]
    return {
        "a size beyond all": sized(2**31 - 1, 2**31 - 1),
        "a size larger than its data": sized(16000, 16000),
        "a negative width": sized(-80, 60),
        "a size without pixels": sized(0, 0),
        "a way of packing that is none": good[:30] + struct.pack("<I", 77) + good[34:],
        "pixels behind the end": good[:10] + struct.pack("<I", 2**31) + good[14:],
    }


def webps(good: bytes) -> dict[str, Spoilt]:
    return {
        "a bomb": large_webp(),
        "a length beyond all": good[:4] + b"\xff" * 4 + good[8:],
        "a canvas larger than its picture": good[:12] + b"VP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2 + good[12:],
    }


def large_webp() -> bytes:
    "One colour has one stream, whatever the size: that of a small picture, under another size."
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(held, "WEBP", lossless=True)
    data = held.getvalue()
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at:at + 4], "little") >> 28 << 28 | 16382 << 14 | 16382
    return data[:at] + bits.to_bytes(4, "little") + data[at + 4:]


def tiffs(good: bytes) -> dict[str, Spoilt]:
    order = "<" if good[:2] == b"II" else ">"
    first = struct.unpack(order + "I", good[4:8])[0]
    count = struct.unpack(order + "H", good[first:first + 2])[0]
    entries = [first + 2 + 12 * n for n in range(count)]
    tag = lambda at: struct.unpack(order + "H", good[at:at + 2])[0]
    at = {tag(e): e for e in entries}
    found: dict[str, Spoilt] = {}

    def put(name: str, number: int, value: int, kind: int = 4, values: int = 1) -> None:
        if number not in at: return
        entry = struct.pack(order + "HHII", number, kind, values, value)
        found[name] = good[:at[number]] + entry + good[at[number] + 12:]

    put("a width beyond all", 256, 2**31 - 1)
    put("a size larger than its data", 257, 3_000_000)
    put("a width of nothing", 256, 0)
    put("strips behind the end", 273, 2**31)
    put("as many strips as there are numbers", 273, 8, values=2**30)
    put("a way of packing that is none", 259, 65001)
    put("samples beyond all", 277, 65535)
    put("an impossible depth", 258, 7)
    end = first + 2 + 12 * count
    found["pages in a circle"] = good[:end] + struct.pack(order + "I", first) + good[end + 4:]
    found["a directory behind the end"] = good[:4] + struct.pack(order + "I", 2**31) + good[8:]
    found["65,535 tags"] = good[:first] + struct.pack(order + "H", 65535) + good[first + 2:]
    return found | {name: lambda name=name: large_tiffs()[name] for name in ("a bomb", "3,000 pages")}


@cache
def large_tiffs() -> dict[str, Spoilt]:
    one, many = io.BytesIO(), io.BytesIO()
    strip = endless(b"\0", 16000 * 2000)
    tifffile.imwrite(one, shape=(16000, 16000), dtype=np.uint8, data=iter([strip] * 8), rowsperstrip=2000,
                     compression="zlib")
    with tifffile.TiffWriter(many) as writer:
        for _ in range(3000): writer.write(np.zeros((4, 4), np.uint8), contiguous=False)
    return {"a bomb": one.getvalue(), "3,000 pages": many.getvalue()}


# ── volumes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def niftis(good: bytes) -> dict[str, Spoilt]:
    def put(**fields) -> bytes:
        raw = np.frombuffer(good[:348], nibabel.nifti1.header_dtype).copy()
        for name, value in fields.items(): raw[name] = value
        return raw.tobytes() + good[348:]

    dims = lambda *sizes: put(dim=[len(sizes), *sizes, *[1] * (7 - len(sizes))])
    return {
        "a size beyond all": dims(32767, 32767, 32767),
        "a size larger than its data": dims(2000, 2000, 200),
        "a negative size": dims(-12, 14, 10),
        "a size without voxels": dims(0, 14, 10),
        "too many axes": put(dim=[200, 12, 14, 10, 1, 1, 1, 1]),
        "voxels behind the end": put(vox_offset=1e30),
        "voxels before the start": put(vox_offset=-5),
        "an offset that is no number": put(vox_offset=np.nan),
        "a slope that is no number": put(scl_slope=np.nan, scl_inter=np.nan),
        "a slope that is endless": put(scl_slope=np.inf),
        "a slope of the largest number": put(scl_slope=3e38, scl_inter=3e38),
        "voxels of no size": put(pixdim=[1, 0, 0, 0, 0, 0, 0, 0]),
        "voxels whose size is no number": put(pixdim=[np.nan] * 8),
        "a matrix that is no number": put(srow_x=[np.nan] * 4, sform_code=1),
        "a matrix of zeros": put(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4, sform_code=1),
        "a type of voxels that is none": put(datatype=12345, bitpix=3),
        "complex voxels": put(datatype=1792, bitpix=128),
    }


def packed_niftis(good: bytes) -> dict[str, Spoilt]:
    plain = gzip.decompress(good)
    found = {name: gzip.compress(data) for name, data in niftis(plain).items()}
    head = np.frombuffer(plain[:348], nibabel.nifti1.header_dtype).copy()
    head["dim"], head["datatype"], head["bitpix"] = [3, 12000, 12000, 8, 1, 1, 1, 1], 4, 16
    found["a bomb"] = lambda: endless_gzip(head.tobytes() + bytes(4), 12000 * 12000 * 16)
    small = head.copy()
    small["dim"] = [3, 2048, 2048, 32, 1, 1, 1, 1]
    found["as empty and large as may be"] = lambda: endless_gzip(small.tobytes() + bytes(4), 2**28)
    found["no voxels behind the header"] = gzip.compress(head.tobytes() + bytes(4))
    found["another checksum"] = good[:-8] + b"\1\2\3\4" + good[-4:]
    return found


def mghs(good: bytes) -> dict[str, Spoilt]:
    plain = gzip.decompress(good)
    sized = lambda *s: gzip.compress(plain[:4] + struct.pack(">iiii", *s) + plain[20:])
    return {"a size beyond all": sized(2**31 - 1, 2**31 - 1, 2**31 - 1, 1),
            "a size larger than its data": sized(2000, 2000, 300, 1), "a negative size": sized(-3, 4, 5, 1)}


def nrrds(good: bytes) -> dict[str, Spoilt]:
    head, body = good.split(b"\n\n", 1)
    line = lambda name, value: re.sub(rb"(?m)^" + name + rb": .*$", name + b": " + value, head) + b"\n\n" + body
    packed = re.sub(rb"(?m)^encoding: .*$", b"encoding: gzip", line(b"sizes", b"16000 16000 4").split(b"\n\n")[0])
    return {
        "a size beyond all": line(b"sizes", b"1000000 1000000 1000000"),
        "a size larger than its data": line(b"sizes", b"1000 1000 600"),
        "a negative size": line(b"sizes", b"-12 14 10"),
        "sizes that are no numbers": line(b"sizes", b"nan inf 10"),
        "a number of a million digits": line(b"sizes", b"1" * MANY + b" 14 10"),
        "too many axes": line(b"dimension", b"99999999"),
        "a type of voxels that is none": line(b"type", b"object"),
        "directions that are no numbers": line(b"space directions", b"(nan,nan,nan) (nan,nan,nan) (nan,nan,nan)"),
        "a way of packing that is none": line(b"encoding", b"base64"),
        "data in a file outside": head + b"\ndata file: " + SECRET.encode() + b"\n\n",
        "data in an endless device": head + b"\ndata file: /dev/zero\n\n",
        "a header without an end": head + b"\n" + b"# comment\n" * 300_000,
        "a line of ten million signs": head + b"\nnote:=" + b"x" * 10**7 + b"\n\n" + body,
        "a bomb": lambda: packed + b"\n\n" + endless_gzip(b"", 16000 * 16000 * 8),
    }


def metaimages(good: bytes) -> dict[str, Spoilt]:
    end = good.index(b"ElementDataFile")
    end = good.index(b"\n", end) + 1
    head, body = good[:end], good[end:]
    line = lambda name, value: re.sub(rb"(?m)^" + name + rb" = .*$", name + b" = " + value, head) + body
    packed = line(b"CompressedData", b"True").removesuffix(body)
    packed = packed.replace(b"DimSize = 12 14 10", b"DimSize = 16000 16000 4")
    return {
        "a size beyond all": line(b"DimSize", b"1000000 1000000 1000000"),
        "a size larger than its data": line(b"DimSize", b"1000 1000 600"),
        "a negative size": line(b"DimSize", b"-12 14 10"),
        "sizes that are no numbers": line(b"DimSize", b"nan inf 10"),
        "sizes of a million digits": line(b"DimSize", b"9" * MANY + b" 14 10"),
        "axes beyond all": line(b"NDims", b"1e300"),
        "a type of voxels that is none": line(b"ElementType", b"MET_OBJECT"),
        "voxels of no size": line(b"ElementSpacing", b"0 0 0"),
        "data in a file outside": line(b"ElementDataFile", SECRET.encode()),
        "data in an endless device": line(b"ElementDataFile", b"/dev/zero"),
        "data in itself": line(b"ElementDataFile", b"a1_image.mhd"),
        "a header without an end": b"Comment = x\n" * 300_000,
        "a bomb": lambda: packed.replace(b"ElementDataFile = a1_image.raw", b"ElementDataFile = LOCAL")
        + endless(b"\0", 16000 * 16000 * 8),
    }


def dicoms(path: Path) -> dict[str, Change]:
    def put(**values) -> Change:
        def change(file: Path) -> None:
            data = pydicom.dcmread(file)
            for name, value in values.items(): setattr(data, name, value)
            data.save_as(file)
        return change

    def nested(depth: int) -> Change:
        def change(file: Path) -> None:
            data = pydicom.dcmread(file)
            start = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"  # an item without a length, and in it a sequence without one
            inner = (b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff" + start) * depth
            data.save_as(file)
            raw = file.read_bytes()
            file.write_bytes(raw + b"\xfe\xff\x30\xa7SQ\0\0\xff\xff\xff\xff" + start + inner)
        return change

    def bomb(file: Path) -> None:
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(file)
        whole = file.read_bytes()
        group = struct.unpack("<I", whole[140:144])[0]
        start = b"\x08\x00\x60\x00CS\x02\0CT\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", 2 * 10**9)
        file.write_bytes(whole[:144 + group] + deflated(b"\0", 2 * 10**9, start))

    def raw(old: bytes, new: bytes) -> Change:
        def change(file: Path) -> None:
            whole = file.read_bytes()
            assert old in whole
            file.write_bytes(whole.replace(old, new, 1))
        return change

    def length_of_pixels(file: Path) -> None:
        whole = file.read_bytes()
        at = whole.rindex(b"\xe0\x7f\x10\x00") + 8
        file.write_bytes(whole[:at] + b"\xfe\xff\xff\xff" + whole[at + 4:])

    def packed(syntax: str, data: bytes) -> Change:
        def change(file: Path) -> None:
            held = pydicom.dcmread(file)
            held.file_meta.TransferSyntaxUID = syntax
            held.PixelData = pydicom.encaps.encapsulate([data])
            held["PixelData"].is_undefined_length = True
            held.save_as(file)
        return change

    rows = dict(Rows=65535, Columns=65535)
    empty = Dataset()
    return {
        "a size beyond all": put(**rows, NumberOfFrames=10**6),
        "a size larger than its data": put(Rows=20000, Columns=20000),
        "a size without pixels": put(Rows=0, Columns=0),
        "frames beyond all": put(NumberOfFrames=2**31 - 1),
        "no frames": put(NumberOfFrames=0),
        "samples beyond all": put(SamplesPerPixel=65535),
        "an impossible depth": put(BitsAllocated=7, BitsStored=65535, HighBit=3),
        "sequences 3,000 deep": nested(3000),
        "sequences 100,000 deep": nested(100_000),
        "a bomb": bomb,
        "a length of the pixels beyond all": length_of_pixels,
        "JPEG that is none": packed("1.2.840.10008.1.2.4.50", b"\xff\xd8\xff\xe0 nothing"),
        "runs that are none": packed("1.2.840.10008.1.2.5", b"\xff" * 64),
        "a bomb of runs": packed("1.2.840.10008.1.2.5", struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 2**20),
        "a way of packing that is none": put(PixelRepresentation=77),
        "a pixel spacing that is no number": put(PixelSpacing=["NaN", "1e999"]) if "PixelSpacing" in
        pydicom.dcmread(path) else put(PixelAspectRatio=[0, 0]),
        "a mark of another file": raw(b"DICM", b"MCID"),
        "an empty sequence of windows": put(WindowCenter=["", ""], WindowWidth=["0", "nan"]),
        "groups for no frame": put(SharedFunctionalGroupsSequence=[empty],
                                   PerFrameFunctionalGroupsSequence=[empty] * 9),
    }


# ── arrays ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def canary() -> bytes:
    "A pickle that would start a program."
    return b"cos\nsystem\n(S'touch pwned; touch ../pwned'\ntR."


def npy(head: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = head.encode() + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + body


LAYOUT = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"


def zip_of(members: dict[str, tuple[bytes, int]]) -> bytes:
    "A zip file; each member is some bytes, and then so many zeros. The checksums of the zeros are left at 0."
    parts, central, at = [], [], 0
    for name, (before, count) in members.items():
        data, size = deflated(b"\0", count, before), len(before) + count
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(data), size, len(name), 0)
        parts.append(b"PK\3\4" + fields + name.encode() + data)
        central.append(b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, at)
                       + name.encode())
        at += len(parts[-1])
    listed = b"".join(central)
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(listed), at, 0)
    return b"".join(parts) + listed + b"PK\5\6" + end


def npys(good: bytes) -> dict[str, Spoilt]:
    return {
        "a size beyond all": npy(LAYOUT % "(1000000000000, 32, 32)"),
        "a size larger than its data": npy(LAYOUT % "(3000, 1000, 1000)", bytes(64)),
        "a negative size": npy(LAYOUT % "(-2, 32, 32)", bytes(2048)),
        "a size that overflows": npy(LAYOUT % "(4294967296, 4294967296, 4294967296)"),
        "a pickle": npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", canary()),
        "a header that is a program": npy("__import__('os').system('touch pwned')"),
        "a header 5,000 brackets deep": npy("(" * 5000 + ")" * 5000),
        "a header of a length beyond all": b"\x93NUMPY\2\0\xff\xff\xff\x7f" + b" " * 100,
        "another version": npy(LAYOUT % "(2, 32, 32)", bytes(2048), b"\x09\0"),
        "a type with a bomb of fields": npy("{'descr': [" + "('a', '|u1')," * 900 + "], 'fortran_order': False, "
                                            "'shape': (2,), }"),
    }


def npzs(good: bytes) -> dict[str, Spoilt]:
    with zipfile.ZipFile(io.BytesIO(good)) as held: parts = {n: held.read(n) for n in held.namelist()}
    first = next(iter(parts))

    def zipped(changes: dict[str, bytes], more=()) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as held:
            for name, data in (parts | changes).items(): held.writestr(name, data)
            for name, data in more: held.writestr(name, data)
        return out.getvalue()

    found = {f"an array with {name}": zipped({first: data}) for name, data in npys(parts[first]).items()}
    found["all arrays with a size beyond all"] = zipped(dict.fromkeys(parts, npy(LAYOUT % "(1000000000000, 32, 32)")))
    large = npy(LAYOUT % "(2, 40000, 40000)"), 32 * 10**8
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found["one name twice"] = zipped({}, [(first, parts[first])])
    central = good.rindex(b"PK\1\2")
    return found | {
        "a bomb": lambda: zip_of(dict.fromkeys(parts, large)),
        "a pickle in the place of an array": zipped({first: canary()}),
        "names that lead outside": zipped({}, [("../../pwned.npy", parts[first]), ("/pwned.npy", parts[first])]),
        "100,000 arrays": lambda: zipped({}, [(f"x{n}.npy", b"") for n in range(100_000)]),
        "a mark of secrecy": good[:central + 8] + b"\1\0" + good[central + 10:],
        "a way of packing that is none": good[:central + 10] + b"\x63\0" + good[central + 12:],
        "a part behind the end": good[:central + 42] + b"\xff\xff\xff\x7f" + good[central + 46:],
    }


def hdf5s() -> dict[str, Change]:
    def place(work: Callable[[h5py.File], object], name="image") -> Change:
        def change(path: Path) -> None:
            with h5py.File(path, "r+") as file:
                if name in file: del file[name]
                work(file)
        return change

    def make(**options) -> Change: return place(lambda file: file.create_dataset("image", **options))

    def circle(file: h5py.File) -> None:
        file.create_group("a")["b"] = file["/"]
        file["image"] = h5py.SoftLink("/a/b/image")

    def deep(file: h5py.File) -> None:
        place = file
        for _ in range(3000): place = place.create_group("g")
        file["image"] = np.zeros((10, 12, 14), np.int16)

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((10, 12, 14), "i2")
        layout[:] = h5py.VirtualSource(SECRET, "image", (10, 12, 14))
        file.create_virtual_dataset("image", layout)

    packed = dict(chunks=(1, 4000, 4000), compression="gzip", compression_opts=9)

    def bomb(file: h5py.File) -> None:
        held = file.create_dataset("image", (100, 4000, 4000), "i2", **packed)
        part = endless(b"\0", 32_000_000)
        for n in range(100): held.id.write_direct_chunk((n, 0, 0), part)

    return {
        "a link to a file outside": place(lambda f: f.__setitem__("image", h5py.ExternalLink(SECRET, "image"))),
        "a link to an endless device": place(lambda f: f.__setitem__("image", h5py.ExternalLink("/dev/zero", "x"))),
        "numbers in a file outside": place(lambda f: f.create_dataset(
            "image", (10, 12, 14), "i2", external=[(SECRET, 0, 3360)])),
        "numbers put together from outside": place(virtual),
        "a link in a circle": place(lambda f: f.__setitem__("image", h5py.SoftLink("/image"))),
        "groups in a circle": place(circle),
        "groups 3,000 deep": place(deep),
        "a size beyond all": make(shape=(10**6, 10**6, 10**6), dtype="i2", chunks=(1, 100, 100)),
        "a size of which nothing was written": make(shape=(100, 4000, 4000), dtype="i2", chunks=(1, 100, 100)),
        "a bomb": place(bomb),
        "objects": make(shape=(3,), dtype=h5py.special_dtype(vlen=str)),
        "places of other arrays": make(shape=(3,), dtype=h5py.ref_dtype),
        "records": make(shape=(10, 12, 14), dtype=[("a", "i2"), ("b", "f4")]),
        "nothing": make(data=h5py.Empty("i2")),
        "numbers that are none": make(data=np.full((10, 12, 14), np.nan, np.float32)),
        "numbers beyond all": make(data=np.full((10, 12, 14), np.finfo(np.float64).max) * np.linspace(-1, 1, 14)),
        "a thousand axes of one": make(shape=(1,) * 30, dtype="i2"),
        "classes that are numbers beyond all": place(lambda f: f.create_dataset(
            "label", data=np.full((10, 12, 14), 2**62, np.int64)), "label"),
    }


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def texts(good: bytes) -> dict[str, Spoilt]:
    text = good.decode()
    return {
        "a mark of UTF-8": b"\xef\xbb\xbf" + good,
        "UTF-16": text.encode("utf-16"),
        "Latin-1": good + "\n# café\n".encode("latin-1"),
        "zeros in it": good[:9] + b"\0\0" + good[9:],
        "one line of ten million signs": good + b"x" * 10**7,
        "a million lines": good + b"\n" * MANY,
        "half a sign": good + b"\xf0\x9f",
        "ends of a PC": good.replace(b"\n", b"\r\n"),
        "signs that turn the direction": good + "\u202e\u2066\u200b".encode(),
    }


def tables(good: bytes) -> dict[str, Spoilt]:
    head, rows = good.split(b"\n", 1)
    number = next((w for w in re.findall(rb"\d+(?:\.\d+)?", rows)), b"1")
    swap = lambda new: head + b"\n" + rows.replace(number, new)
    return {
        "a million columns": head + b",x" * MANY + b"\n" + rows,
        "a million rows": good + rows.split(b"\n")[0].join([b"", b"\n"]) * 200_000,
        "a quote that does not end": good + b'"' + b"x\n" * 100_000,
        "a cell of ten million signs": head + b"\n" + rows.rstrip() + b"x" * 10**7 + b"\n",
        "numbers that are none": swap(b"nan"),
        "numbers beyond all": swap(b"1e999"),
        "a number of a million digits": swap(b"9" * MANY),
        "formulas": swap(b"=cmd|' /C calc'!A0"),
        "only a header": head + b"\n",
        "no header": rows,
        "one column twice": head + b"," + head.split(b",")[0] + b"\n" + rows.replace(b"\n", b",1\n"),
        "another separator": good.replace(b",", b";"),
    }


def numbers(good: bytes) -> dict[str, Spoilt]:
    swap = lambda new: re.sub(rb"\d+\.?\d*", new, good, count=1)
    rows = [line for line in good.splitlines() if line] or [b"0 0"]
    second = lambda new: re.sub(rb"(\S+\s+)\S+", rb"\g<1>" + new, good, count=1)
    return {
        "a number that is none": second(b"nan"), "a number beyond all": second(b"1e308"),
        "an endless number": second(b"inf"), "a negative number": second(b"-5"),
        "a number of a million digits": swap(b"9" * MANY),
        "a hundred thousand rows": b"\n".join(rows * 100_000)[:10**7] + b"\n",
        "a single word": rows[0].split()[0] + b"\n",
    }


def deep(open: str, close: str, depth: int = 100_000, inner: str = "1") -> bytes:
    return (open * depth + inner + close * depth).encode()


def jsons(good: bytes) -> dict[str, Spoilt]:
    table = json.loads(good)
    key = next(iter(table))
    dumped = lambda new: json.dumps(table | new).encode()
    names = ",".join(f'"k{n}":{n}' for n in range(MANY)).encode()
    start = good.lstrip()[1:]
    return {
        "lists 100,000 deep": b'{"%s":' % key.encode() + deep("[", "]") + b"}",
        "tables 100,000 deep": deep('{"a":', "}"),
        "a million names": b"{" + names + b"," + start,
        "one name twice": b'{"%s":1,' % key.encode() + start,
        "a number of a million digits": b'{"x":' + b"9" * MANY + b"," + start,
        "numbers that are none": b'{"x":NaN,"y":Infinity,' + start,
        "half a sign": b'{"\\ud800":"\\udfff",' + start,
        "a list": b"[" + good + b"]",
        "nothing": b"null",
        "other kinds of values": dumped({name: [1] if isinstance(value, dict) else {"a": 1}
                                         for name, value in table.items()}),
        "values of nothing": dumped(dict.fromkeys(table)),
        "a name of Python's": dumped({"__class__": "os.system", "__reduce__": ["touch pwned"]}),
    }


def cocos(good: bytes) -> dict[str, Spoilt]:
    table = json.loads(good)
    if "annotations" not in table: return {}
    shape = lambda **new: json.dumps(table | dict(annotations=[table["annotations"][0] | new])).encode()
    image = lambda **new: json.dumps(table | dict(images=[table["images"][0] | new])).encode()
    return {
        "a box that is no number": shape(bbox=[float("nan")] * 4),
        "a box beyond all": shape(bbox=[0, 0, 1e308, 1e308]),
        "a box of text": shape(bbox="0 0 1 1"),
        "a polygon of a million corners": shape(segmentation=[[1, 1] * 500_000], bbox=None),
        "a mask of runs beyond all": shape(segmentation=dict(size=[60, 80], counts=[0, 10**12]), iscrowd=0),
        "a mask of a size beyond all": shape(segmentation=dict(size=[10**6, 10**6], counts="PPYo0")),
        "an image of a size beyond all": image(width=10**9, height=10**9),
        "an image outside of the folder": image(file_name="../../etc/passwd"),
        "an image by the web": image(file_name="http://127.0.0.1:9/a.png"),
    }


def xmls(good: bytes) -> dict[str, Spoilt]:
    body = good[good.index(b"<annotation"):]
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    entity = lambda text: f'<?xml version="1.0"?><!DOCTYPE a [{text}]>'.encode()
    return {
        "a bomb of entities": entity('<!ENTITY l0 "ha">' + laughs) + body.replace(b"red", b"&l9;"),
        "a file outside": entity('<!ENTITY x SYSTEM "file:///etc/passwd">') + body.replace(b"red", b"&x;"),
        "the network": entity('<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;') + body,
        "a bomb of entities in UTF-16": (entity('<!ENTITY l0 "ha">' + laughs)
                                         + body.replace(b"red", b"&l9;")).decode().encode("utf-16"),
        "elements 100,000 deep": deep("<a>", "</a>"),
        "300,000 elements": b"<annotation>" + b"<object/>" * 300_000 + b"</annotation>",
        "a polygon of 50,000 corners": re.sub(rb"<bndbox>.*?</bndbox>", b"<polygon>" + b"".join(
            b"<x%d>%d</x%d><y%d>%d</y%d>" % (n, n % 70, n, n, n % 50, n) for n in range(1, 50_001)) + b"</polygon>",
            body, count=1),
        "a hundred thousand attributes": b"<annotation " + b" ".join(b'a%d="1"' % n for n in range(100_000)) + b"/>",
        "a box that is no number": re.sub(rb"<xmin>.*?</xmin>", b"<xmin>nan</xmin>", body),
        "a box beyond all": re.sub(rb"<xmax>.*?</xmax>", b"<xmax>1e308</xmax>", body),
        "an image of a size beyond all": re.sub(rb"<width>.*?</width>", b"<width>999999999</width>", body),
    }


def tomls(good: bytes) -> dict[str, Spoilt]:
    names = "".join(f"k{n} = {n}\n" for n in range(MANY)).encode()
    read, row = b"[[read]]\n", b'[[files]]\nname = "%s"\nurl = "%s"\nmd5 = "' + b"0" * 32 + b'"\n'
    swap = lambda old, new: good.replace(old, new, 1)
    return {
        "a million names": good + names,
        "a million names at its head": names + good,
        "a million tables": good + b"".join(b"[t%d]\n" % n for n in range(200_000)),
        "lists 100,000 deep": good + b"x = " + deep("[", "]") + b"\n",
        "tables 5,000 deep": good + b"x = " + deep("{a = ", "}", 5000) + b"\n",
        "a name of 50,000 parts": good + b".".join([b"a"] * 50_000) + b" = 1\n",
        "a title of ten million signs": swap(b'"Toy"', b'"' + b"x" * 10**7 + b'"'),
        "a number of a million digits": swap(b"channels = 1", b"channels = " + b"1" * MANY),
        "a million classes": good.replace(b'1 = "disc"', b"".join(b'%d = "c%d"\n' % (n, n) for n in range(MANY))),
        "values of other kinds": swap(b'"Toy"', b"[1, {a = 2}]"),
        "a date": swap(b'"Toy"', b"1979-05-27T07:32:00Z"),
        "a number that is none": swap(b"channels = 1", b"channels = nan"),
        "a reader that is none": swap(b'"pairs"', b'"__import__"'),
        "a pattern that is none": swap(b'"images/*', b'"re:((((*'),
        "a pattern outside of the folder": swap(b'"images/*', b'"../../*'),
        "a folder outside": swap(read, read + b'folder = "../../etc"\n'),
        "a download to a place outside": good + row % (b"../pwned", b"https://x"),
        "a download of a file": good + row % (b"x.zip", b"file:///etc/passwd"),
        "a name that is a path": swap(b'name = "toy"', b'name = "../toy"'),
        "a name that is a page": swap(b'name = "toy"', b'name = "<script>alert(1)</script>"'),
    }


def yamls(good: bytes) -> dict[str, Spoilt]:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    merged = "m0: &m0 {a: 1}\n" + "".join(
        f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 10)}]\n" for n in range(1, 9))
    return {
        "a bomb of names": laughs.encode() + good,
        "a bomb of names inside": b"train: &t\n" + laughs.replace("a", "  a", 1).replace("\na", "\n  a").encode(),
        "a bomb of merges": merged.encode() + good,
        "a circle": b"shared: &s {seed: *s}\n",
        "an object of Python's": b"train: !!python/object/apply:os.system ['touch pwned']\n",
        "lists 100,000 deep": b"train: " + deep("[", "]"),
        "a million names": b"".join(b"k%d: 1\n" % n for n in range(100_000)) + good,
        "a number of a million digits": b"train: {steps: " + b"1" * 10**5 + b"}\n",
        "two documents": good + b"---\n" + good,
        "names that are no text": b"? [a, b]\n: 1\n" + good,
        "tabs": good.replace(b"train: {", b"train:\n\t{"),
    }


def notebooks(good: bytes) -> dict[str, Spoilt]:
    book = json.loads(good)

    def cell(source) -> bytes:
        cells = [dict(c) for c in book["cells"]]
        cells[1]["source"] = source
        return json.dumps(book | dict(cells=cells)).encode()

    injected = [c for c in book["cells"]] + [
        dict(cell_type="code", id="x", metadata=dict(tags=["injected-parameters"]), outputs=[], execution_count=None,
             source="# Parameters\nsteps = __import__('os').system('touch pwned')\n")]
    deepest = "-" * 100_000 + "1"
    return {
        "a parameter that is a program": cell("steps: int = __import__('os').system('touch pwned')"),
        "a parameter without an end": cell("steps: int = 9**9**9"),
        "a parameter 100,000 brackets deep": cell("steps: list = " + "[" * 100_000 + "]" * 100_000),
        "a parameter of 100,000 signs": cell(f"steps: int = {deepest}"),
        "a parameter of 5,000 sums": cell("steps: int = " + "1+" * 5000 + "1"),
        "a type 100,000 brackets deep": cell("steps: " + "list[" * 90 + "int" + "]" * 90 + " = 3"),
        "a number of a million digits": cell("steps: int = " + "9" * MANY),
        "a name of a hundred thousand parts": cell(".".join(["a"] * 100_000) + " = 1"),
        "a text with a zero": cell("steps: int = 3\0"),
        "half a sign": cell("steps: str = '\ud800'"),
        "a hundred thousand parameters": cell("".join(f"p{n}: int = {n}\n" for n in range(100_000))),
        "a source that is a number": cell(7),
        "a source that is a table": cell({"a": "b"}),
        "a source of nothing": cell(None),
        "injected parameters": json.dumps(book | dict(cells=injected)).encode(),
        "cells that are a table": json.dumps(book | dict(cells={"a": 1})).encode(),
        "tags that are text": good.replace(b'["parameters"]', b'"parameters"'),
        "a format of tomorrow": json.dumps(book | dict(nbformat=99)).encode(),
        "a format of yesterday": json.dumps(book | dict(nbformat=1)).encode(),
    }


# ── archives and sealed files ─────────────────────────────────────────────────────────────────────────────────────────


def zips(good: bytes) -> dict[str, Spoilt]:
    def made(*members: tuple[str, bytes], mode: int = 0o644) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as held:
            for name, data in members:
                about = zipfile.ZipInfo(name)
                about.external_attr, about.compress_type = mode << 16, zipfile.ZIP_DEFLATED
                held.writestr(about, data)
        return out.getvalue()

    body = zip_of({"zeros": (b"", 3 * 10**9)})
    central = good.rindex(b"PK\1\2")
    size = body.rindex(b"PK\1\2") + 24
    return {
        "a member outside": made(("../pwned", b"x")),
        "a member at the root": made(("/tmp/pwned-by-zip", b"x")),
        "a member of Windows outside": made(("..\\pwned", b"x")),
        "a member on a drive": made(("C:\\pwned", b"x")),
        "a member far outside": made(("a/b/../../../pwned", b"x")),
        "a link": made(("link", b"/etc/passwd"), mode=0o120777),
        "a device": made(("device", b""), mode=0o020666),
        "a pipe": made(("pipe", b""), mode=0o010666),
        "one name twice in other capitals": made(("a", b"1"), ("A", b"2")),
        "a file that is a folder as well": made(("a", b"1"), ("a/b", b"2")),
        "a name that is too long": made(("x" * 5000, b"1")),
        "a name of nothing": made(("", b"1")),
        "a name with a zero": made(("a\0b", b"1")),
        "names of 3,000 folders": made(("/".join(["d"] * 3000), b"1")),
        "five thousand members": lambda: made(*((f"m{n}", b"") for n in range(5_000))),
        "a bomb": body,
        "a bomb that says it is small": body[:size] + struct.pack("<I", 100) + body[size + 4:],
        "a mark of secrecy": good[:central + 8] + b"\1\0" + good[central + 10:],
        "a way of packing that is none": good[:central + 10] + b"\x63\0" + good[central + 12:],
    }


def tars(good: bytes, ending: str) -> dict[str, Spoilt]:
    pack = {"tar": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[ending]

    def made(*members: tarfile.TarInfo | str, **fields) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as held:
            for member in members:
                about = tarfile.TarInfo(member) if isinstance(member, str) else member
                for name, value in fields.items(): setattr(about, name, value)
                held.addfile(about, io.BytesIO(bytes(about.size)) if about.isfile() else None)
        return pack(out.getvalue())

    link, through = tarfile.TarInfo("link"), tarfile.TarInfo("link/pwned")
    link.type, link.linkname = tarfile.SYMTYPE, "../.."
    huge = tarfile.TarInfo("huge")
    huge.size = 8**11 - 1
    sparse = tarfile.TarInfo("sparse")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50),
                          "GNU.sparse.name": "sparse"}
    head = huge.tobuf(tarfile.GNU_FORMAT)
    found = {
        "a member outside": made("../pwned"), "a member at the root": made("/tmp/pwned-by-tar"),
        "a member far outside": made("a/b/../../../pwned"),
        "a link out": made(link), "a way through a link": made(link, through),
        "a hard link": made("h", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        "a device": made("d", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "a pipe": made("p", type=tarfile.FIFOTYPE),
        "a program with rights of the owner": made("s", mode=0o6777),
        "one name twice in other capitals": made("a", "A"),
        "a file that is a folder as well": made("a", "a/b"),
        "a name that is too long": made("x" * 5000),
        "a size beyond all": pack(head + bytes(1024)),
        "a sparse file beyond all": made(sparse),
        "a negative size": pack(head[:124] + b"\xff" * 12 + head[136:] + bytes(1024)),
        "five thousand members": lambda: made(*(f"m{n}" for n in range(5_000))),
        "a note that is too long": pack(
            tarfile.TarInfo("x").tobuf(tarfile.PAX_FORMAT) + b"99999999 path=x\n" + bytes(2048)),
    }
    if ending == "tar": return found
    big = tarfile.TarInfo("zeros")
    big.size = 3 * 10**9 // 512 * 512
    head = big.tobuf(tarfile.GNU_FORMAT)
    large = lambda: endless_gzip(head, big.size + 10240) if ending == "gz" else pack(head + bytes(3 * 10**7))
    return found | {"a bomb": large, "no tar in it": pack(bytes(10**5))}


def weights(good: bytes) -> dict[str, Spoilt]:
    size = struct.unpack("<Q", good[:8])[0]
    head, place = good[8:8 + size], rb'"data_offsets":\[\d+,\d+\]'
    put = lambda new: struct.pack("<Q", len(new)) + new + good[8 + size:]
    return {
        "a header beyond all": struct.pack("<Q", 2**63) + good[8:],
        "a header longer than the file": struct.pack("<Q", len(good) + 1) + good[8:],
        "a header without a length": struct.pack("<Q", 0) + good[8:],
        "a header 100,000 brackets deep": put(deep("[", "]")),
        "a size beyond all": put(re.sub(rb'"shape":\[\d+', b'"shape":[999999999999', head, count=1)),
        "numbers behind the end": put(re.sub(place, b'"data_offsets":[0,99999999999]', head, count=1)),
        "numbers one over another": put(re.sub(place, b'"data_offsets":[0,4]', head)),
        "a type that is none": put(head.replace(b'"F32"', b'"PY1"', 1)),
    }


def torches(good: bytes) -> dict[str, Spoilt]:
    with zipfile.ZipFile(io.BytesIO(good)) as held: parts = {n: held.read(n) for n in held.namelist()}
    pickled = next(n for n in parts if n.endswith("data.pkl"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as held:
        for name, data in parts.items(): held.writestr(name, canary() if name == pickled else data)
    return {"a pickle that is a program": canary(), "a program inside": out.getvalue(),
            "a pickle 100,000 lists deep": b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b"."}


# ── by family ─────────────────────────────────────────────────────────────────────────────────────────────────────────

BY_BYTES: dict[str, tuple[Callable[[bytes], dict[str, Spoilt]], ...]] = {
    "png": (pngs,), "jpeg": (jpegs,), "gif": (gifs,), "bmp": (bmps,), "webp": (webps,), "tiff": (tiffs,),
    "nifti": (niftis,), "nifti.gz": (packed_niftis,), "mgz": (mghs,), "nrrd": (nrrds,), "mha": (metaimages,),
    "raw": (), "npz": (npzs,), "npy": (npys,), "csv": (texts, tables), "text": (texts, numbers),
    "json": (texts, jsons, cocos), "xml": (texts, xmls), "toml": (texts, tomls), "yaml": (texts, yamls),
    "notebook": (texts, jsons, notebooks), "zip": (zips,), "torch": (torches,),
}


def particular(family: str, path: Path) -> Iterator[tuple[str, Change]]:
    "What hurts files of this family."
    if family == "dicom": yield from dicoms(path).items()
    elif family == "hdf5": yield from hdf5s().items()
    else:
        good, end = path.read_bytes(), path.suffix[1:]
        makers = BY_BYTES.get(family, ())
        if family in ("sealed", "safetensors"):
            makers = {"json": (texts, jsons), "csv": (texts, tables), "npy": (npys,), "safetensors": (weights,)}[end]
        if family == "png" and end == "toml": makers = (tomls,)
        if family == "tar": makers = (lambda data: tars(data, end),)
        for make in makers:
            for name, data in make(good).items():
                if data == good: continue
                yield name, lambda file, data=data: file.write_bytes(data() if callable(data) else data)


def changes(family: str, path: Path, count: int, seed: int) -> Iterator[tuple[str, Change]]:
    "Name and doing of all that is tried on one good file."
    good = path.read_bytes()
    for name, data in (*chances(good, count, seed), *whatever(good)):
        if data != good: yield name, lambda file, data=data: file.write_bytes(data)
    for name in NO_FILES: yield name, lambda file, name=name: no_file(file, name)
    yield from particular(family, path)
