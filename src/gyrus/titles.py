"""What explanation methods are called in print. Apart from their cards, since pages are written without torch."""

from __future__ import annotations

METHOD_TITLES = {
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "elementwise": "Element-wise Grad-CAM",
    "eigencam": "Eigen-CAM",
    "eigengradcam": "Eigen-Grad-CAM",
    "layercam-fused": "LayerCAM, fused",
    "fullgrad": "FullGrad",
    "fullgrad-raw": "FullGrad, complete",
    "saliency": "Saliency",
    "inputxgradient": "Input x gradient",
    "integrated-gradients": "Integrated gradients",
    "smoothgrad": "SmoothGrad",
    "scorecam": "Score-CAM",
    "ablationcam": "Ablation-CAM",
    "occlusion": "Occlusion",
    "rise": "RISE",
}
"""Name in the registry -> title as its paper writes it; the cards take theirs from here."""
