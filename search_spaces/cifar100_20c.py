"""Make twenty classes of CIFAR-100 into one NPZ file: python search_spaces/cifar100_20c.py FOLDER [--download].

Classes and split are those of docs/results: the 100 images of a class with the smallest SHA-1 are its test images.
Their order there is another one, so accuracies differ as between two seeds. Not tried on torchvision's CIFAR-100.
"""

import hashlib
import sys

import numpy as np
from torchvision.datasets import CIFAR100

names = ["orchid", "poppy", "rose", "sunflower", "tulip", "apple", "mushroom", "orange", "pear", "sweet_pepper", "bear"]
names += ["leopard", "lion", "tiger", "wolf", "bicycle", "bus", "motorcycle", "pickup_truck", "train"]
parts = [CIFAR100(sys.argv[1], train=train, download="--download" in sys.argv) for train in (True, False)]
images, classes = np.concatenate([part.data for part in parts]), np.concatenate([part.targets for part in parts])
rows = [np.flatnonzero(classes == parts[0].class_to_idx[name]) for name in names]
rows = [sorted(found, key=lambda row: hashlib.sha1(images[row].tobytes()).digest()) for found in rows]
arrays = {"class_names": np.array(names), "x_train": images[[row for found in rows for row in found[100:]]]}
arrays |= {"x_test": images[[row for found in rows for row in found[:100]]]}
arrays |= {"y_train": np.repeat(np.arange(20), 500), "y_test": np.repeat(np.arange(20), 100)}
np.savez_compressed(f"{sys.argv[1]}/cifar100_20c_500x100.npz", **arrays)
