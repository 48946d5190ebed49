"""The page on which a trained generator is played with, here or as a Space.

`page.py` and what it imports need numpy, Pillow and Gradio alone, so `space.py` can copy them.
`run_subject.py` lets the page stand on the library, and `onnx_subject.py` on an ONNX file.
"""
