"""Reading DICOM: files, instances, frames, pixels. pydicom and numpy, no Django."""
