"Small DICOM files for tests: images, segmentations and outlines."

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SEG, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
CT, DX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"


def dicom(path: Path, pixels: np.ndarray, frames: bool = False, **more) -> Path:
    "A file of grey (H, W), colour (H, W, 3) or, with `frames`, more of them; `more` are further attributes."
    path.parent.mkdir(parents=True, exist_ok=True)
    data, colour = Dataset(), pixels.shape[-1] == 3 and pixels.ndim > 2
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = more.pop("syntax", ExplicitVRLittleEndian)
    given = dict(
        SOPClassUID=DX,
        SOPInstanceUID=generate_uid(entropy_srcs=[str(path)]),
        PatientID="P1",
        Modality="DX",
        PhotometricInterpretation="RGB" if colour else "MONOCHROME2",
        SamplesPerPixel=3 if colour else 1,
        PixelRepresentation=int(pixels.dtype.kind == "i"),
        BitsAllocated=8 * pixels.dtype.itemsize,
        BitsStored=8 * pixels.dtype.itemsize,
        HighBit=8 * pixels.dtype.itemsize - 1,
    )
    if colour:
        given["PlanarConfiguration"] = 0
    if frames:
        given["NumberOfFrames"] = len(pixels)
    given["Rows"], given["Columns"] = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if "FloatPixelData" not in more:
        given["PixelData"] = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for key, value in (given | more).items():
        if value is not None:
            setattr(data, key, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


def item(**values) -> Dataset:
    "An item of a sequence."
    data = Dataset()
    for key, value in values.items():
        setattr(data, key, value)
    return data


def group(**sequences) -> Dataset:
    "A functional group: sequence → the attributes of its one item."
    return item(**{name: [item(**values)] for name, values in sequences.items()})


def changed(path: Path, **values) -> Path:
    "The file with other attributes; None removes one."
    data = pydicom.dcmread(path)
    for key, value in values.items():
        if value is None:
            delattr(data, key)
        else:
            setattr(data, key, value)
    data.save_as(path)
    return path


def segmentation(
    path: Path,
    frames: np.ndarray,             # (F, H, W)
    numbers: list[int],             # the segment of each frame
    names: dict[int, str],          # of the segments
    images: list[Path] | None = None,       # the file that each frame was drawn on
    places: list | None = None,             # or the position of each frame
    kind: str = "BINARY",
    **more,
) -> Path:
    "A DICOM SEG file."
    groups = []
    for f, number in enumerate(numbers):
        groups.append(group(SegmentIdentificationSequence=dict(ReferencedSegmentNumber=number)) if number else item())
        if images:
            uid = pydicom.dcmread(images[f], stop_before_pixels=True).SOPInstanceUID
            source = item(ReferencedSOPInstanceUID=uid, ReferencedSOPClassUID=CT)
            groups[-1].DerivationImageSequence = [item(SourceImageSequence=[source])]
        if places:
            groups[-1].PlanePositionSequence = [item(ImagePositionPatient=list(map(float, places[f])))]
    segments = [item(SegmentNumber=n, SegmentLabel=name) for n, name in names.items()]
    given = dict(
        SOPClassUID=SEG,
        Modality="SEG",
        SegmentationType=kind,
        SegmentSequence=segments,
        PerFrameFunctionalGroupsSequence=groups,
    )
    if kind == "FRACTIONAL":
        given["MaximumFractionalValue"] = 255
    if kind == "BINARY":
        bits = np.packbits(frames.astype(bool).ravel(), bitorder="little").tobytes()
        given |= dict(BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=bits + b"\0" * (len(bits) % 2))
    return dicom(path, frames.astype(np.uint8), frames=True, **given | more)


def outlines(path: Path, regions: dict[str, list], kind: str = "CLOSED_PLANAR", **more) -> Path:
    "An RTSTRUCT file: name → outlines, each (N, 3) in mm."
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = RTSTRUCT
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    data.PatientID, data.Modality = "P1", "RTSTRUCT"
    data.StructureSetROISequence = [item(ROINumber=n, ROIName=name) for n, name in enumerate(regions, 1)]
    data.ROIContourSequence = []
    for n, contours in enumerate(regions.values(), 1):
        drawn = [
            item(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(c),
                ContourData=np.ravel(c).round(4).tolist(),
            )
            for c in contours
        ]
        data.ROIContourSequence.append(item(ReferencedROINumber=n, ContourSequence=drawn))
    for key, value in more.items():
        setattr(data, key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
