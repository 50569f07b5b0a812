"""Means over tasks and percentages, resample by resample, against what probability says."""

import math

import numpy as np
import pytest

from ctd_lib.scores.sampled import Sampled, mean, mean_over_tasks, percent


def normal(value, seed, resamples=4000):
    return Sampled(value, np.random.default_rng(seed).normal(value, 1.0, resamples))


def width(found):
    return found.interval.high - found.interval.low


def test_an_interval_leaves_out_a_twentieth():
    value, low, high = normal(3.0, 0).interval
    assert (value, low, high) == (
        3.0,
        pytest.approx(3 - 1.96, abs=0.1),
        pytest.approx(4.96, abs=0.1),
    )
    assert math.isnan(Sampled(1.0, np.array([1.0, math.nan])).interval.low)


def test_a_mean_over_tasks_is_as_wide_as_tasks_differ():
    alike = [Sampled(1.0, np.full(1000, 1.0))] * 4
    assert mean_over_tasks(alike).interval == (1, 1, 1)
    apart = [Sampled(x, np.full(1000, x)) for x in (0.0, 0.0, 4.0, 4.0)]
    # Of four draws from two values: none or all of the higher one has probability 1 / 16 each.
    assert mean_over_tasks(apart).interval == (2, 0, 4)


def test_a_mean_over_tasks_is_surer_than_one_task():
    one = normal(0.0, 1)
    # Task i is drawn n_i times of four, and sum E[n_i ** 2] = 7.
    expected = width(one) * math.sqrt(7) / 4
    assert width(mean_over_tasks([one] * 4)) == pytest.approx(expected, rel=0.06)
    assert width(mean_over_tasks([one])) == pytest.approx(width(one))


def test_archs_on_one_task_share_their_resamples():
    one = normal(0.0, 2)
    assert width(mean([one, one])) == pytest.approx(width(one))
    opposite = Sampled(-one.value, -one.drawn)
    assert width(mean([one, opposite])) == pytest.approx(0)


def test_a_percentage_of_nothing_is_no_number():
    whole = Sampled(0.5, np.array([0.5, 0.0, 0.4]))
    found = percent(Sampled(0.25, np.array([0.25, 0.1, 0.4])), whole)
    assert found.value == 50 and math.isnan(found.interval.low)
    assert found.drawn[[0, 2]].tolist() == [50, 100]
    assert math.isnan(percent(whole, Sampled(0.0, np.zeros(3))).value)
