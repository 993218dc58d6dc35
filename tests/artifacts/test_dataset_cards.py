"""Names of data in cards: they stay text of one line."""

from vlmixer.artifacts.dataset_cards import plain


def test_names_are_no_markdown():
    assert plain("`x`|<script>\n---\n[y](javascript:z)") == r"\`x\`\|\<script\> --- \[y\](javascript:z)"
