import numpy as np
import pytest
from scipy import stats

from rag_core.errors import UsageError
from rag_core.metrics.bootstrap import Bootstrap


def naive_means(values, n_resamples, seed):
    generator = np.random.default_rng(seed)
    return np.array([generator.choice(values, size=len(values)).mean() for _ in range(n_resamples)])


@pytest.mark.parametrize("n", [20, 400, 30_000])
def test_interval_of_a_share_agrees_with_the_normal_approximation(n):
    values = np.zeros(n)
    values[: n // 4] = 1.0
    low, high = Bootstrap(n_resamples=20_000).mean_interval(values)
    half_width = 1.96 * np.sqrt(0.25 * 0.75 / n)
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.1 if n == 20 else 0.03)
    assert (high + low) / 2 == pytest.approx(0.25, abs=0.5 / n + 0.05 * half_width)


@pytest.mark.parametrize("distinct", [3, 500])
def test_both_ways_of_drawing_give_the_bootstrap_distribution(distinct):
    generator = np.random.default_rng(0)
    values = generator.integers(distinct, size=500) ** 2 / distinct
    resampled = Bootstrap(n_resamples=3000).resampled_sums(values[:, None])[:, 0] / len(values)
    naive = naive_means(values, 3000, seed=9)
    assert stats.ks_2samp(resampled, naive).pvalue > 0.01


def test_columns_are_resampled_together():
    values = np.random.default_rng(0).normal(size=300)
    for rows in (np.stack([values, 2 * values], axis=1), np.stack([values > 0, 2.0 * (values > 0)], axis=1)):
        sums = Bootstrap(n_resamples=50).resampled_sums(rows.astype(np.float64))
        np.testing.assert_allclose(sums[:, 1], 2 * sums[:, 0], rtol=1e-12)


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(600):
        low, high = Bootstrap(n_resamples=400, seed=seed).mean_interval(generator.exponential(size=60))
        covered += low <= 1.0 <= high
    assert 0.89 <= covered / 600 <= 0.97  # the percentile interval is a little short on skewed data


def test_interval_depends_on_seed_and_items_not_on_their_order():
    values = np.random.default_rng(2).normal(size=200)
    interval = Bootstrap().mean_interval(values)
    assert Bootstrap().mean_interval(values[::-1]) == interval
    assert Bootstrap(seed=1).mean_interval(values) != interval


def test_blocks_cover_every_resample(monkeypatch):
    values = np.arange(50.0)
    monkeypatch.setattr("rag_core.metrics.bootstrap._BLOCK_NUMBERS", 120)  # blocks of 2 resamples
    sums = Bootstrap(n_resamples=7).resampled_sums(values[:, None])[:, 0]
    assert len(set(sums)) > 1
    assert ((sums >= 0) & (sums <= 50 * 49)).all()


def test_one_item_and_equal_items_have_no_spread():
    assert Bootstrap().mean_interval([0.25]) == (0.25, 0.25)
    assert Bootstrap().mean_interval([0.5] * 100) == (0.5, 0.5)


def test_paired_test_sees_what_an_unpaired_one_would_not():
    generator = np.random.default_rng(4)
    difficulty = generator.random(500)
    peer = difficulty
    ours = difficulty + generator.normal(0.01, 0.03, size=500)  # small against the spread of difficulty
    result = Bootstrap(n_resamples=2000).compare_means(ours, peer)
    t_test = stats.ttest_rel(ours, peer)
    assert result.difference == pytest.approx(np.mean(ours - peer))
    assert result.ci_low > 0
    assert result.p_value < 0.01
    assert t_test.pvalue < 0.01
    assert stats.ttest_ind(ours, peer).pvalue > 0.1
    low, high = t_test.confidence_interval(0.95)
    assert (result.ci_low, result.ci_high) == (
        pytest.approx(low, abs=0.1 * (high - low)),
        pytest.approx(high, abs=0.1 * (high - low)),
    )


def test_paired_p_value_agrees_with_the_t_test_and_is_uniform_without_a_difference():
    generator = np.random.default_rng(6)
    p_values = []
    for seed in range(200):
        ours, peer = generator.normal(size=(2, 80))
        result = Bootstrap(n_resamples=500, seed=seed).compare_means(ours, peer)
        assert result.p_value == pytest.approx(stats.ttest_rel(ours, peer).pvalue, abs=0.1)
        p_values.append(result.p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_equal_systems_differ_by_nothing():
    result = Bootstrap().compare_means([0.1, 1.0, 0.3], [0.1, 1.0, 0.3])
    assert (result.difference, result.ci_low, result.ci_high, result.p_value, result.n) == (
        0.0,
        0.0,
        0.0,
        1.0,
        3,
    )


def test_swapping_the_systems_turns_the_difference_around():
    ours, peer = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    there, back = Bootstrap().compare_means(ours, peer), Bootstrap().compare_means(peer, ours)
    assert there.difference == -back.difference == pytest.approx(1 / 3)
    assert there.p_value == pytest.approx(back.p_value, abs=0.05)


def test_what_cannot_be_resampled_is_said():
    with pytest.raises(UsageError, match="at least one value"):
        Bootstrap().mean_interval([])
    with pytest.raises(UsageError, match="finite"):
        Bootstrap().mean_interval([0.0, float("nan")])
    with pytest.raises(UsageError, match=r"\(2,\) and \(3,\)"):
        Bootstrap().compare_means([1, 2], [1, 2, 3])
    with pytest.raises(UsageError, match="n_resamples"):
        Bootstrap(n_resamples=0)
    with pytest.raises(UsageError, match="confidence"):
        Bootstrap(confidence=95)
