"""Options that both train commands take."""

from typing import Any, Literal

from pipelines.options import ModelSettings, option
from rag_core.training.optimizers import OptimizerName
from rag_core.training.run import TrainingSettings


class TrainSettings(ModelSettings):
    """How long and how fast is trained, how often validated and saved.

    Weights, optimiser and scores are float32 always; `--precision` is that of forward passes.
    """

    dtype: Literal["auto", "float32"] = option(
        "of the weights: always float32; see --precision for the arithmetic", "auto"
    )
    epochs: int = option("times that every question is used", 40, ge=1)
    max_steps: int | None = option("steps after which training ends, whatever the epochs", None, ge=1)
    learning_rate: float = option("at its peak", 2e-5, gt=0)
    warmup_steps: int = option("steps in which the learning rate rises from 0", 100, ge=0)
    schedule: Literal["linear", "constant"] = option(
        "of the learning rate after the warm-up: linear falls to 0 at the last step", "linear"
    )
    optimizer: OptimizerName = option(
        "adamw; or muon for the matrices of hidden layers, whose steps go in all directions of a matrix alike",
        "adamw",
    )
    weight_decay: float = option("of matrices", 0.0, ge=0)
    max_gradient_norm: float = option("gradients are scaled down to it", 2.0, gt=0)
    validate_every: int = option("steps between validations, each a row of the history", 500, ge=1)
    max_validation: int | None = option(
        "held-out questions that are used, the first ones; default: all", None, ge=1
    )
    patience: int = option("validations without a better score after which training stops; 0: never", 0, ge=0)
    checkpoint_every: int = option(
        "steps after which an interrupted run goes on at the latest", 500, changes_result=False, ge=1
    )
    seed: int = option("of all that is random", 0, ge=0)
    precision: Literal["float32", "bfloat16"] = option(
        "of forward passes; bfloat16 is mixed precision: weights, optimiser and scores stay float32",
        "float32",
    )

    def training(self) -> TrainingSettings:
        """What the loop takes of these."""
        return TrainingSettings(
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            schedule=self.schedule,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            max_gradient_norm=self.max_gradient_norm,
            validate_every=self.validate_every,
            patience=self.patience,
            seed=self.seed,
        )

    def result_settings(self) -> dict[str, Any]:
        """Those that count, the weights' type as it is; what came later and is not set is no setting."""
        settings = super().result_settings() | {"dtype": "float32"}
        unset = {"max_validation": None, "optimizer": "adamw"}
        return {name: value for name, value in settings.items() if (name, value) not in unset.items()}
