"""Golden values of src/stats from scipy and statsmodels: python tools/make_golden_statistics.py --out tests/golden/statistics.json

Needs scipy, statsmodels, NumPy, pandas."""

import argparse
import itertools
import json

import numpy
import pandas
import scipy
import statsmodels
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats import anova, contingency_tables, multitest, power, proportion


def paired(random):
    cases = []
    for n in (3, 12, 40, 148):
        first = random.gamma(4.0, 0.9, n)
        second = first + random.normal(0.02, 0.05, n)
        test = stats.ttest_rel(first, second)
        interval = test.confidence_interval(0.95)
        cases.append(
            dict(
                first=first.tolist(),
                second=second.tolist(),
                mean=float((first - second).mean()),
                standard_error=float(stats.sem(first - second)),
                p=float(test.pvalue),
                low=float(interval.low),
                high=float(interval.high),
            )
        )
    return cases


def bca(random):
    """The distribution is scipy's own, so that the formula is compared and not the draws."""
    cases = []
    for n, draw in ((10, random.exponential), (40, random.normal), (25, lambda size: random.gamma(0.5, 2.0, size))):
        values = draw(size=n)
        result = stats.bootstrap((values,), numpy.mean, n_resamples=999, confidence_level=0.9, method="BCa", rng=random)
        large = stats.bootstrap((values,), numpy.mean, n_resamples=200_000, method="BCa", rng=random, batch=10_000)
        cases.append(
            dict(
                values=values.tolist(),
                resampled=result.bootstrap_distribution.tolist(),
                confidence=0.9,
                low=float(result.confidence_interval.low),
                high=float(result.confidence_interval.high),
                many_low=float(large.confidence_interval.low),
                many_high=float(large.confidence_interval.high),
                many_confidence=0.95,
            )
        )
    return cases


def proportions():
    cases = []
    for right, n in ((0, 71), (31, 71), (71, 71), (29, 71), (5301, 10042), (2452, 3270), (1, 12)):
        case = dict(right=right, n=n)
        for name, method in (("wilson", "wilson"), ("exact", "beta")):
            low, high = proportion.proportion_confint(right, n, 0.05, method)
            case[name] = [float(low), float(high)]
        cases.append(case)
    return cases


def mcnemar():
    cases = []
    for first, second in ((2, 0), (0, 4), (10, 3), (12, 12), (61, 35), (420, 381), (0, 0)):
        table = [[5, first], [second, 7]]
        cases.append(dict(first=first, second=second, p=float(contingency_tables.mcnemar(table, exact=True).pvalue)))
    return cases


def flips(random):
    cases = []
    for n, largest in ((8, 3), (12, 5), (14, 2)):
        values = random.integers(-largest, largest + 1, n)
        test = stats.permutation_test(
            (values,), numpy.sum, permutation_type="samples", n_resamples=numpy.inf, alternative="two-sided", vectorized=False
        )
        cases.append(dict(differences=values.tolist(), p=float(test.pvalue)))
    return cases


def wilcoxon(random):
    cases = []
    for n in (3, 5, 8, 15, 30):
        values = random.normal(0.4, 1.0, n)
        cases.append(dict(differences=values.tolist(), p=float(stats.wilcoxon(values, method="exact").pvalue)))
    return cases


def kendall(random):
    cases = []
    for n, values in ((3, 9), (6, 9), (12, 4), (30, 100)):
        first, second = random.integers(0, values, (2, n)).astype(float)
        second += first
        tau = float(stats.kendalltau(first, second).statistic)
        cases.append(dict(first=first.tolist(), second=second.tolist(), tau=tau))
    return cases


def holm(random):
    cases = []
    for n in (1, 4, 20):
        raw = random.beta(0.4, 2.0, n)
        cases.append(dict(raw=raw.tolist(), adjusted=multitest.multipletests(raw, method="holm")[1].tolist()))
    return cases


def clustered(random):
    """The variance of an intercept with clusters and no small-sample correction."""
    cases = []
    for clusters, size in ((40, 3), (15, 8)):
        sources = numpy.repeat(numpy.arange(clusters), size)
        chance = numpy.repeat(random.beta(2, 2, clusters), size)
        values = (random.random(len(sources)) < chance).astype(float)
        model = ols("value ~ 1", pandas.DataFrame(dict(value=values)))
        fit = model.fit(cov_type="cluster", cov_kwds=dict(groups=sources, use_correction=False))
        cases.append(dict(values=values.tolist(), sources=sources.tolist(), standard_error=float(fit.bse.iloc[0])))
    return cases


def t_power():
    cases = []
    for n, effect, alpha in ((3, 1.0, 0.05), (5, 1.5, 0.05), (40, 0.3, 0.05), (148, 0.25, 0.01), (30, 0.5, 0.002)):
        test = power.TTestPower()
        found = float(test.power(effect, n, alpha, alternative="two-sided"))
        needed = float(test.solve_power(None, n, alpha, 0.8, alternative="two-sided"))
        cases.append(dict(n=n, effect=effect, alpha=alpha, power=found, detectable=needed))
    return cases


def components(random):
    """Mean squares of a two-way layout from statsmodels' table."""
    cases = []
    for seeds, windows in ((3, 20), (5, 40)):
        rows = (
            random.normal(0, 0.3, (seeds, 1)) + random.normal(0, 1.0, (1, windows)) + random.normal(0, 0.2, (seeds, windows))
        )
        frame = pandas.DataFrame(
            [dict(seed=s, window=w, value=rows[s, w]) for s, w in itertools.product(range(seeds), range(windows))]
        )
        table = anova.anova_lm(ols("value ~ C(seed) + C(window)", frame).fit())
        squares = table["mean_sq"]
        cases.append(
            dict(
                rows=rows.tolist(),
                seed_square=float(squares["C(seed)"]),
                window_square=float(squares["C(window)"]),
                rest_square=float(squares["Residual"]),
            )
        )
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    out = parser.parse_args().out
    random = numpy.random.default_rng(2508)
    golden = dict(
        versions=dict(numpy=numpy.__version__, scipy=scipy.__version__, statsmodels=statsmodels.__version__),
        paired=paired(random),
        bca=bca(random),
        proportions=proportions(),
        mcnemar=mcnemar(),
        flips=flips(random),
        wilcoxon=wilcoxon(random),
        holm=holm(random),
        clustered=clustered(random),
        power=t_power(),
        components=components(random),
        # With random numbers of its own, so that what is above stays as it was.
        kendall=kendall(numpy.random.default_rng(2611)),
    )
    with open(out, "w") as file:
        json.dump(golden, file, indent=None, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
