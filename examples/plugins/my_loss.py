from dataclasses import dataclass
import torch, icd
from icd.fields import Positive

@icd.register_base_loss("cosine")
@dataclass(frozen=True)
class Cosine:
    weight: Positive = 1.0
    def __call__(self, student_NK, teacher_NK, labels_N):
        return self.weight * (1 - torch.cosine_similarity(student_NK, teacher_NK))
