"""pass@k against enumeration of subsets, and means over problems against simulated models."""

from itertools import combinations, product

import pytest
import torch

from lightning_modules.metrics import estimate_means, pass_at_k, powers_of_two


def oracle_by_enumeration(passed: list[bool], k: int) -> float:
    """The definition, over every k-subset; exponential, fine for n <= 8."""
    subsets = list(combinations(passed, k))
    return sum(map(any, subsets)) / len(subsets)


@pytest.mark.parametrize(("c", "k"), [*product(range(6), (1, 2, 5))])
def test_pass_at_k_equals_subset_enumeration(c, k):
    expected = oracle_by_enumeration([True] * c + [False] * (5 - c), k)
    assert pass_at_k(torch.tensor([c]), n=5, k=k).item() == pytest.approx(expected)


def test_pass_at_k_equals_subset_enumeration_where_n_varies():
    cases = [(n, c) for n in (3, 5, 8) for c in range(n + 1)]
    found = pass_at_k(torch.tensor([c for _, c in cases]), n=torch.tensor([n for n, _ in cases]), k=3)
    expected = [oracle_by_enumeration([True] * c + [False] * (n - c), 3) for n, c in cases]
    assert found.tolist() == pytest.approx(expected)


def test_pass_at_k_is_unbiased_where_n_varies_by_problem():
    """Oracle: the solve rate p of a simulated model gives pass@k = 1 - (1-p)^k exactly."""
    generator = torch.Generator().manual_seed(0)
    rate = torch.rand(60_000, generator=generator, dtype=torch.float64)
    n = torch.randint(4, 33, rate.shape, generator=generator)
    correct = torch.binomial(n.double(), rate, generator=generator)
    for k in (1, 2, 4):
        expected = (1 - (1 - rate) ** k).mean().item()
        assert pass_at_k(correct, n=n, k=k).mean().item() == pytest.approx(expected, abs=0.004)  # 3 standard errors


def test_a_problem_with_fewer_samples_than_k_has_no_estimate():
    assert pass_at_k(torch.tensor([2, 2]), n=torch.tensor([3, 8]), k=4).isnan().tolist() == [True, False]


def test_k_above_n_is_refused():
    with pytest.raises(ValueError, match="k=9, n=8"):
        pass_at_k(torch.tensor([1]), n=8, k=9)


def test_k_goes_up_in_powers_of_two_and_ends_with_n():
    assert powers_of_two(128) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert powers_of_two(6) == [1, 2, 4, 6]


def test_an_estimate_is_the_plain_mean_with_its_standard_error():
    values = torch.tensor([[1.0, 0.2], [0.0, 0.4], [1.0, 0.9], [0.0, 0.1]], dtype=torch.float64)
    for column, estimate in enumerate(estimate_means([(1.0, values)])):
        assert estimate.mean == pytest.approx(values[:, column].mean().item())
        assert estimate.standard_error == pytest.approx(values[:, column].std().item() / 2)
        assert estimate.low < estimate.mean < estimate.high
        assert estimate.problems == 4


def test_weights_of_strata_do_not_depend_on_how_many_problems_each_has():
    easy, hard = torch.ones(7, 1), torch.zeros(90, 1)
    assert estimate_means([(0.2, easy), (0.8, hard)])[0].mean == pytest.approx(0.2)


def test_intervals_over_strata_are_as_wide_as_their_standard_error_says():
    """Oracle: with many problems the estimate is normal, of variance sum_s w_s^2 Var_s / m_s."""
    generator = torch.Generator().manual_seed(0)
    easy, hard = (torch.rand(m, 1, dtype=torch.float64, generator=generator) for m in (400, 900))
    easy, hard = (easy < 0.8).double(), (hard < 0.3).double()
    (found,) = estimate_means([(0.2, easy), (0.8, hard)], resamples=4000)
    error = (0.04 * easy.var().item() / 400 + 0.64 * hard.var().item() / 900) ** 0.5
    assert found.standard_error == pytest.approx(error)
    assert [(found.mean - found.low) / error, (found.high - found.mean) / error] == pytest.approx([1.96] * 2, abs=0.15)


def test_a_column_leaves_out_problems_it_says_nothing_about():
    values = torch.tensor([[0.5, torch.nan], [0.1, 1.0], [0.3, 0.0]])
    first, second = estimate_means([(1.0, values)])
    assert (first.problems, first.mean) == (3, pytest.approx(0.3))
    assert (second.problems, second.mean) == (2, 0.5)


@pytest.mark.parametrize(("alpha", "beta", "k"), [(0.5, 0.5, 1), (1.0, 3.0, 4), (0.3, 4.0, 1)])
def test_intervals_cover_the_truth_at_the_stated_rate(alpha, beta, k):
    """Oracle: models whose solve rates are drawn from a Beta distribution, so that the true pass@k is known."""
    torch.manual_seed(0)
    law = torch.distributions.Beta(torch.tensor(alpha, dtype=torch.float64), torch.tensor(beta, dtype=torch.float64))
    draws = law.sample((1_000_000,))
    truth = (1 - (1 - draws) ** k).mean().item()
    trials, problems, n = 600, 100, 16
    rate = law.sample((problems, trials))
    values = pass_at_k(torch.binomial(torch.tensor(float(n), dtype=torch.float64).expand_as(rate), rate).flatten(), n=n, k=k)
    covered = [
        found.low <= truth <= found.high
        for column in values.view(problems, trials).split(60, dim=1)
        for found in estimate_means([(1.0, column)], resamples=800, seed=int(column[0, 0] * 1e6))
    ]
    # 95% nominal; the standard error of 600 trials is 0.9 points, and 100 problems leave the method itself a point short
    assert 0.92 <= sum(covered) / trials <= 0.975


def test_where_no_problem_is_solved_the_interval_still_says_how_little_is_known():
    found = estimate_means([(1.0, torch.zeros(30, 1))])[0]
    assert (found.mean, found.low) == (0, 0)
    assert (1 - found.high) ** 30 == pytest.approx(0.05)
