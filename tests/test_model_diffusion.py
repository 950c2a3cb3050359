"""The head's process: schedule facts, and samplers against a head whose right answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from impact_plugin.model.diffusion import SAMPLERS, Diffusion, annealed_steps, cosine_alphas, respaced
from impact_plugin.model.head import DiffusionHead
from impact_plugin.model.masking import generator

DIMS = 6


class KnownHead(DiffusionHead):
    """Predicts exactly for tokens that are normal with the mean held in the condition and a known spread."""

    def __init__(self, diffusion: Diffusion, spread: float) -> None:
        super().__init__(DIMS, 8, 1, DIMS)
        self.process, self.data_spread = diffusion, spread

    def embed_times(self, times: Tensor) -> Tensor:
        return times

    def denoise(self, tokens: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        alpha = self.current_alpha
        variance = alpha * self.data_spread**2 + (1 - alpha)
        epsilon = (1 - alpha) ** 0.5 * (tokens - alpha**0.5 * condition) / variance
        if self.process.prediction == "velocity":
            clean = (tokens - (1 - alpha) ** 0.5 * epsilon) / alpha**0.5
            epsilon = alpha**0.5 * epsilon - (1 - alpha) ** 0.5 * clean
        return torch.cat([epsilon, torch.ones_like(epsilon)], dim=-1)


def known_sample(prediction: str, sampler: str, steps: int, spread: float, count: int = 4000) -> Tensor:
    """Samples of a process whose every step is exact; the condition is a mean of 2 in all dims."""
    diffusion = Diffusion(1000, prediction)  # type: ignore[arg-type]
    head = KnownHead(diffusion, spread)
    times = iter(reversed(respaced(1000, steps)))
    exact = head.denoise

    def denoise(tokens: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        head.current_alpha = float(diffusion.alphas[next(times)])
        return exact(tokens, time, condition)

    head.denoise = denoise  # type: ignore[method-assign]
    head.embed_condition = torch.nn.Identity()  # type: ignore[assignment]
    random = generator(5)
    return diffusion.sample(
        head,
        torch.full((count, DIMS), 2.0),
        torch.randn(count, DIMS, generator=random),
        lambda step: torch.randn(count, DIMS, generator=random),
        sampler=sampler,  # type: ignore[arg-type]
        steps=steps,
    )


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 100), ("ddim", 60), ("dpm++", 25)])
def test_samplers_draw_from_the_right_distribution(prediction: str, sampler: str, steps: int) -> None:
    found = known_sample(prediction, sampler, steps, spread=0.5)
    assert float(found.mean()) == pytest.approx(2.0, abs=0.05)
    assert float(found.std()) == pytest.approx(0.5, abs=0.06)


def test_the_fast_sampler_needs_fewer_steps() -> None:
    def error(sampler: str) -> float:
        found = known_sample("velocity", sampler, 8, spread=0.5, count=2000)
        return abs(float(found.std()) - 0.5)

    assert error("dpm++") < error("ddim")


def test_the_cosine_schedule_falls_from_one_to_nothing() -> None:
    alphas = cosine_alphas(1000)
    assert float(alphas[0]) > 0.9999
    assert float(alphas[-1]) < 1e-6
    assert bool((alphas.diff() < 0).all())
    assert float(alphas[499]) == pytest.approx(0.4938, abs=0.002)  # cos(pi/2 (0.5 + s)/(1 + s))^2


def test_respacing_keeps_both_ends() -> None:
    assert respaced(1000, 1000) == list(range(1000))
    assert respaced(1000, 1) == [999]
    for kept in (2, 5, 25, 100):
        times = respaced(1000, kept)
        assert len(times) == kept
        assert times[0] == 0
        assert times[-1] == 999


def test_a_part_of_the_process_begins_where_it_should() -> None:
    assert respaced(1000, 5, 0.4) == [0, 100, 200, 300, 400]
    assert respaced(1000, 5, 0.001) == [0, 1]
    diffusion = Diffusion(1000, "velocity")
    table = diffusion.table(5, torch.device("cpu"), 0.4)
    assert float(table.root_alpha[-1] ** 2) == pytest.approx(float(diffusion.alphas[400]), rel=1e-5)


@pytest.mark.parametrize("begin", [0.2, 0.5, 0.9])
def test_a_noisy_sketch_has_the_variance_that_the_head_knows(begin: float) -> None:
    diffusion = Diffusion(1000, "velocity")
    noise = torch.randn(20000, 3, generator=generator(1))
    sketch = torch.randn(20000, 3, generator=generator(2)) * torch.tensor([1.0, 0.5, 0.0])
    started = diffusion.from_sketch(sketch, noise, begin)
    assert torch.allclose(started.std(dim=0), torch.ones(3), atol=0.03)
    alike = float((started[:, 0] * sketch[:, 0]).mean())
    assert alike == pytest.approx(float(diffusion.alphas[round(999 * begin)]) ** 0.5, abs=0.03)


def test_annealed_steps_go_from_first_to_last() -> None:
    assert [annealed_steps(50, 5, share) for share in (0.0, 0.5, 1.0)] == [50, 28, 5]


def test_guidance_pushes_away_from_the_null() -> None:
    diffusion = Diffusion(1000, "velocity")
    torch.manual_seed(0)
    head = DiffusionHead(DIMS, 32, 2, 10).eval()
    condition, null = torch.randn(64, 10), torch.randn(64, 10)
    start = torch.randn(64, DIMS)
    torch.nn.init.normal_(head.out.weight, std=0.2)

    def run(scale: float) -> Tensor:
        scales = torch.full((64,), scale)
        return diffusion.sample(
            head, condition, start, lambda step: start, sampler="ddim", steps=4, null=null, guidance=scales
        )

    plain = diffusion.sample(head, condition, start, lambda step: start, sampler="ddim", steps=4)
    assert torch.allclose(run(1.0), plain)
    toward = diffusion.sample(head, null, start, lambda step: start, sampler="ddim", steps=4)
    assert float((run(3.0) - toward).norm()) > float((plain - toward).norm()) * 1.5


def test_the_loss_can_be_learned_and_trains_the_variance() -> None:
    diffusion = Diffusion(1000, "epsilon")
    torch.manual_seed(1)
    head = DiffusionHead(DIMS, 48, 2, 4)
    head.zero()
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    condition = torch.randn(256, 4, generator=generator(2))
    tokens = condition @ torch.randn(4, DIMS, generator=generator(3))
    losses = []
    for step in range(80):
        optimiser.zero_grad()
        loss = diffusion.loss(head, tokens, condition, generator(4, step)).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    variance_rows = head.out.weight[DIMS:]
    assert float(variance_rows.detach().abs().max()) > 0.0


def test_unknown_sampler_is_refused() -> None:
    diffusion = Diffusion()
    head = DiffusionHead(DIMS, 8, 1, 4)
    with pytest.raises(ValueError, match=", ".join(SAMPLERS).replace("+", r"\+")):
        diffusion.sample(
            head,
            torch.zeros(1, 4),
            torch.zeros(1, DIMS),
            lambda step: torch.zeros(1, DIMS),
            sampler="euler",  # type: ignore[arg-type]
        )
