"""What every page must be: readable, no wider than its window, in order for a screen reader."""

import itertools
from typing import Any

_FAINT_TEXT = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const over = (top, under) => top.rgb.map((c, i) => c * top.a + under[i] * (1 - top.a));
  const backdrop = (element) => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(e);
    return chain.reduce((under, e) => over(parse(getComputedStyle(e).backgroundColor), under),
      [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, style, .unseen, noscript")) continue;
    const style = getComputedStyle(element);
    const under = backdrop(element);
    const color = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(over(parse(color), under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push(`${walker.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
"""The texts whose contrast with what is behind them (WCAG 2.2, 1.4.3) is below 4.5."""
_HEADINGS = "[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))"


def assert_readable(page: Any) -> None:
    """Every text stands out from its background."""
    assert page.evaluate(_FAINT_TEXT) == []


def assert_fits(page: Any) -> None:
    """The page is no wider than its window."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def assert_in_order(page: Any) -> None:
    """There is one main part and one title; headings skip no level, and all pictures have words."""
    assert page.get_by_role("main").count() == 1
    levels = page.evaluate(_HEADINGS)
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("html[lang]").count() == 1
