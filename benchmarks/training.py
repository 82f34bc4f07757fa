"""Training, end to end, against a plain loop; the runner against its own bare step; the step against the machine.

    python benchmarks/training.py                       # ResNet-18, batch 128, as the default run
    python benchmarks/training.py --steps 40 --repeats 7

The three programs take turns. "End to end" is a real run of the default config, from one epoch's first batch to the
next one's: augmentation, metrics, log, CSV files. It leaves out the evaluation after each epoch, which has a benchmark
of its own, and so does the plain loop.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import (
    Limit,
    Report,
    Result,
    arguments,
    cpu_features,
    overrides_for_synthetic_data,
    print_measurement,
)
from sides import Clock, Orders, Side

BATCH = 128
MATRIX = 2048  # side of the square matrices that tell the machine's own rate


def plain_side(orders: Orders, threads: int | None) -> None:
    """``("steps", n)``: seconds of n steps of the plain loop."""
    import plain
    import synthetic
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    split = synthetic.cifar10_like().train
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = plain.Training(split.images, split.labels, BATCH, device)
    training.steps(2)
    orders.tell("ready")
    while True:
        _, count = orders.next()
        clock = Clock()
        training.steps(count)
        _wait_for(device)
        orders.tell(clock.read())


def product_side(orders: Orders, overrides: list[str], folder: str) -> None:
    """A real run whose epochs start when they are told to.

    ``("epoch",)``: seconds from the start of an epoch to the start of the next; ``("bare", n)``: seconds of n steps of
    the same network on the same batch in memory; ``("matmul", precision)``: FLOP/s of the machine.
    """
    import torch

    from cifar_exp.config.compose import compose_config
    from cifar_exp.runner import run
    from cifar_exp.training import fit

    train_epoch = fit.train_epoch
    clock: Clock | None = None

    def gated(learner: Any, *args: Any, **options: Any) -> Any:
        nonlocal clock
        compute, normalize = learner.training_step.compute, learner.training_step.normalize
        if clock is not None:
            _wait_for(compute.device)
            orders.tell(clock.read())
        else:
            orders.tell(str(compute.precision).removeprefix("torch."))  # the first epoch warms up
        while (order := orders.next())[0] != "epoch":
            if order[0] == "bare":
                orders.tell(_bare_steps(learner, order[1], compute, normalize))
            elif order[0] == "matmul":
                orders.tell(_matmul_rate(getattr(torch, order[1]), compute.device))
            else:
                orders.tell(_training_flops(learner.model, compute.device))
        clock = Clock()
        return train_epoch(learner, *args, **options)

    fit.train_epoch = gated
    config = compose_config(overrides)
    run(config, Path(folder) / "run")


def _bare_steps(learner: Any, count: int, compute: Any, normalize: Any) -> tuple[float, float]:
    """The network, its optimizer and nothing else, on one batch that is in memory already."""
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)
    inputs = normalize(torch.randint(0, 256, (BATCH, 32, 32, 3), dtype=torch.uint8, generator=generator))
    labels = torch.randint(0, 10, (BATCH,), generator=generator).to(compute.device)
    learner.model.train()
    _wait_for(compute.device)
    clock = Clock()
    for _ in range(count):
        with compute.autocast():
            logits = learner.forward(inputs)
        loss = F.cross_entropy(logits.float(), labels)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learner.optimizer.step()
    _wait_for(compute.device)
    return clock.read()


def _matmul_rate(dtype: Any, device: Any) -> float:
    """FLOP/s of the product of two square matrices."""
    import torch

    a, b = torch.randn(2, MATRIX, MATRIX, device=device).to(dtype)
    for _ in range(2):
        a @ b
    _wait_for(device)
    times = 10 if device.type == "cpu" else 200
    started = time.perf_counter()
    for _ in range(times):
        a @ b
    _wait_for(device)
    return times * 2 * MATRIX**3 / (time.perf_counter() - started)


def _training_flops(model: Any, device: Any) -> float:
    """Floating-point operations of forward and backward for one image, as PyTorch counts them (a product-sum is 2)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model.eval()  # leaves the statistics of batch normalization alone
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32, device=device)).sum().backward()
    model.zero_grad(set_to_none=True)
    model.train()
    return counter.get_total_flops()


def _wait_for(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def main() -> None:
    parser = arguments(__doc__, steps=12, repeats=5, threads=0)
    parser.add_argument("override", nargs="*", help="config overrides of the product's side, such as compile=true")
    options = parser.parse_args()
    threads = options.threads or None
    rounds = options.repeats + 1  # the first one warms up
    images = options.steps * BATCH
    overrides = [
        *overrides_for_synthetic_data(),
        f"batch_size={BATCH}",
        f"data.limit_train={images}",
        "data.limit_test=128",
        "data.validation_fraction=0",
        f"epochs={rounds + 1}",
        "max_lr=0.01",
        f"checkpoint.every_epochs={rounds + 1}",
        *([f"threads={threads}"] if threads else []),
        *options.override,
    ]
    report = Report(f"training {' '.join(options.override)}".strip(), threads)
    plain_times, product_times, bare_times, rates = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, Side(product_side, overrides, folder) as product:
        precision = product.ready
        flops = product.order("flops")
        with Side(plain_side, threads) as plain:
            for turn in range(rounds):
                plain_times.append(plain.order("steps", options.steps))
                product_times.append(product.order("epoch"))
                bare_times.append(product.order("bare", options.steps))
                rates.append(product.order("matmul", precision))
                seconds = {"ours": product_times[-1][0], "plain": plain_times[-1][0], "bare": bare_times[-1][0]}
                print_measurement("seconds", turn - 1, seconds)

    def per_second(times: list[tuple[float, float]]) -> list[float]:
        return [images / wall for wall, _ in times[1:]]

    def processor_ms(times: list[tuple[float, float]]) -> list[float]:
        return [1e3 * processor / images for _, processor in times[1:]]

    # 4.5 is asked of a CPU that multiplies bfloat16 matrices (AMX): it is more than other CPUs' arithmetic allows.
    bfloat16 = precision == "bfloat16"
    times_plain = 4.5 if bfloat16 and "amx_bf16" in cpu_features() else 1.2
    speed = per_second(product_times)
    report.add(
        Result(
            f"ResNet-18 training, end to end ({precision})",
            "images/s",
            speed,
            per_second(plain_times),
            "plain loop",
            Limit("ratio", at_least=times_plain),
        )
    )
    report.add(
        Result(
            "the same, processor time",
            "ms/image",
            processor_ms(product_times),
            processor_ms(plain_times),
            "plain loop",
            speed=False,
        )
    )
    report.add(
        Result(
            "the runner around its step", "images/s", speed, per_second(bare_times), "bare step", Limit("ratio", 0.97)
        )
    )
    report.add(
        Result(
            "the same, processor time",
            "ms/image",
            processor_ms(product_times),
            processor_ms(bare_times),
            "bare step",
            speed=False,
        )
    )
    report.add(
        Result(
            f"training's arithmetic, {flops / 1e9:.2f} GFLOP an image",
            "GFLOP/s",
            [flops * value / 1e9 for value in speed],
            [rate / 1e9 for rate in rates[1:]],
            f"{precision} product of {MATRIX}x{MATRIX} matrices",
            Limit("ratio", at_least=0.4) if bfloat16 else None,
        )
    )
    report.write(options.csv)


if __name__ == "__main__":
    main()
