"""Settings of the tests of `rag_core`."""

import torch

# the models are tiny: a second thread costs more than it gives
torch.set_num_threads(1)
