"""Two engines that fine-tune Faster R-CNN on faces, over one kind of checkpoint; see `facedet train --engine`."""
