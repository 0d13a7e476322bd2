"""How sizes become base units, and what is said when nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.exact import NotANumberError
from pipeline.instrument import (
    Contract,
    Instrument,
    coin_of,
    contract_of,
    contract_value,
    load_table,
    packaged_table,
    pair_of,
    unknown_contract,
)

SWAP = Instrument("okx", "perps", "BTC-USDT-SWAP")


def own(vault: Path, text: str) -> dict[str, dict[str, str]]:
    """The table of a vault with this `instruments.toml`."""
    (vault / "instruments.toml").write_text(text, encoding="utf-8")
    return load_table(vault)


def test_names_of_an_instrument() -> None:
    """Folders say perps, rows say perp; settings and options name it the same way."""
    assert SWAP.key == "okx/perps/BTC-USDT-SWAP"
    assert SWAP.row_market == "perp"
    assert Instrument("okx", "spot", "BTC-USDT").row_market == "spot"
    assert Instrument("taq", "equities", "AIG").row_market == "equity"
    assert SWAP.options == "-i BTC-USDT-SWAP --exchange okx --market perps"


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("okx/perps/BTC-USDT-SWAP", ("linear", "0.01")),
        ("okx/perps/ETH-USDT-SWAP", ("linear", "0.1")),
        ("okx/perps/BTC-USD-SWAP", ("inverse", "100")),
        ("okx/perps/NOBODY-KNOWS-SWAP", ("linear", "")),
        ("sim/perps/NOBODY-KNOWS-SWAP", ("linear", "")),
        ("binance/perps/BTCUSDT", ("base", "1")),
        ("binance/perps/NOBODYUSD_PERP", ("linear", "")),
        ("binance/spot/BTC_USDT", ("base", "1")),
        ("okx/spot/BTC-USDT", ("base", "1")),
        ("coinbase/perps/BTC-PERP", ("base", "1")),
        ("elsewhere/perps/X", ("base", "1")),
    ],
)
def test_the_packaged_contracts(key: str, wanted: tuple[str, str], tmp_path: Path) -> None:
    """Contracts where the exchange counts in contracts, never an assumed 1."""
    contract = contract_of(Instrument(*key.split("/")), packaged_table(), tmp_path)
    assert (contract.kind, contract.value) == wanted


def test_every_packaged_entry_can_be_used(tmp_path: Path) -> None:
    """The shipped table has no entry that would only fail on a user's machine."""
    for key in packaged_table():
        parts = key.split("/")
        assert len(parts) == 3, key
        assert contract_of(Instrument(*parts), packaged_table(), tmp_path).value


def test_the_vaults_own_table_is_laid_over(tmp_path: Path) -> None:
    """An entry of the vault wins, the others stay."""
    table = own(
        tmp_path,
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "0.5"\nctMult = "10"\ntick = "0.1"\nlot = "1"\n'
        '["okx/perps/X-USD-SWAP"]\nctVal = "10"\nctType = "inverse"\n',
    )
    assert contract_of(SWAP, table, tmp_path) == Contract("linear", "5", "0.1", "1")
    inverse = Instrument("okx", "perps", "X-USD-SWAP")
    assert contract_of(inverse, table, tmp_path) == Contract("inverse", "10")
    ethereum = Instrument("okx", "perps", "ETH-USDT-SWAP")
    assert contract_of(ethereum, table, tmp_path).value == "0.1"


COINS = {
    "okx": "BTC-USDT-SWAP BTC-USD-SWAP BTC-USDT BTC-USD-240927 BTC-USDT-240927 BTC-USD_UM-SWAP "
    "BTC-USD-240927-60000-C BTC-EUR btc-usdt-swap",
    "binance": "BTCUSDT BTCUSDC BTCFDUSD BTCTUSD BTCBUSD BTCEUR BTCTRY BTCBRL BTCUSDT_240927 "
    "BTCUSDC_241227 BTCUSD_PERP BTCUSD_240927 BTC-240927-60000-C btcusdt",
    "coinbase": "BTC-USD BTC-USDC BTC-USDT BTC-EUR BTC-PERP-INTX BTC-PERP",
    "bybit": "BTCUSDT BTCUSD BTCPERP BTCUSDZ24 BTC-27SEP24 BTC-27SEP24-60000-C",
    "deribit": "BTC-PERPETUAL BTC_USDC-PERPETUAL BTC-27SEP24 BTC-27SEP24-60000-P BTC_USDC",
    "bitmex": "XBTUSD XBTUSDT XBTZ24 XBT_USDT",
    "kraken": "PI_XBTUSD PF_XBTUSD FI_XBTUSD_240927 XBT-USD",
    "gate-io": "BTC_USDT BTC_USDT_20240927",
}
OTHER_COINS = [
    ("1000SHIBUSDT", "1000SHIB"),
    ("1000SHIBUSDC", "1000SHIB"),
    ("1000000MOGUSDT", "1000000MOG"),
    ("1INCHUSDT", "1INCH"),
    ("1INCH-USDT-SWAP", "1INCH"),
    ("ETHBTC", "ETH"),
    ("BTCDOMUSDT", "BTCDOM"),
    ("BNBUSD_PERP", "BNB"),
    ("BNBBTC", "BNB"),
    ("BNBBUSD", "BNB"),
    ("BNBUSD", "BNB"),
    ("DOTUSD_PERP", "DOT"),
    ("DOTUSD_240927", "DOT"),
    ("DOTTUSD", "DOT"),
    ("SHIBUSD_PERP", "SHIB"),
    ("LINKUSD_PERP", "LINK"),
    ("OPFDUSD", "OP"),
    ("WUSDT", "W"),
    ("WBTC-USDT", "WBTC"),
    ("WBTC_USDT", "WBTC"),
    ("WBTCBTC", "WBTC"),
    ("STETHUSDT", "STETH"),
    ("USDCUSDT", "USDC"),
    ("EURUSDT", "EUR"),
    ("ETHUSDT_240927", "ETH"),
    ("SOL-USD-SWAP", "SOL"),
    ("BTC", "BTC"),
    ("ETH", "ETH"),
]


@pytest.mark.parametrize(
    ("name", "coin"),
    [(name, "BTC") for names in COINS.values() for name in names.split()] + OTHER_COINS,
)
def test_the_coin_of_names_as_exchanges_write_them(name: str, coin: str) -> None:
    """Perpetual, dated, coin-margined, option or spot: the coin that a transfer would name."""
    assert coin_of(name) == coin


@pytest.mark.parametrize("key", [key for key in packaged_table() if "perps" in key])
def test_the_coin_of_every_packaged_contract(key: str) -> None:
    """It is what stands before the quote currency that the key spells out."""
    name = key.split("/")[2]
    quotes = ("-USDT-SWAP", "-USDC-SWAP", "-USD-SWAP", "USD_PERP", "USDT")
    (wanted,) = [name.removesuffix(end) for end in quotes if name.endswith(end)][:1]
    assert coin_of(name) == wanted


@pytest.mark.parametrize(
    ("name", "quote"),
    [
        ("BTC-USDT-SWAP", "USDT"),
        ("BTC-USD-240927", "USD"),
        ("BTC-USD_UM-SWAP", "USD"),
        ("BTCUSD_PERP", "USD"),
        ("DOTUSD_PERP", "USD"),
        ("BNBBUSD", "BUSD"),
        ("BTCFDUSD", "FDUSD"),
        ("ETHBTC", "BTC"),
        ("BTC_USDC-PERPETUAL", "USDC"),
        ("BTC-240927-60000-C", ""),
        ("BTC-PERPETUAL", ""),
        ("AIG", ""),
    ],
)
def test_the_quote_currency_where_the_name_tells_it(name: str, quote: str) -> None:
    """Nothing rather than a date, or the word for a perpetual."""
    assert pair_of(name)[1] == quote


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "\xff\xfe",
        'top = "level"',
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "0"\n',
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "-1"\n',
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "x"\n',
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "1"\nctMult = "0"\n',
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "1"\nctType = "quanto"\n',
        '["okx/perps/BTC-USDT-SWAP"]\nctVal = "999999999999999"\nctMult = "999999999999999"\n',
    ],
)
def test_a_wrong_table_is_a_usage_error_that_names_the_file(text: str, tmp_path: Path) -> None:
    """Status 2, the path, and the hint to edit it; never a traceback, never a guess."""
    (tmp_path / "instruments.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        contract_of(SWAP, load_table(tmp_path), tmp_path)
    assert caught.value.status == 2
    assert "instruments.toml" in caught.value.message
    assert caught.value.hint is not None
    assert "edit" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "multiplier", "wanted"),
    [("0.01", "1", "0.01"), ("100", "10", "1000"), ("0.10", "0.5", "0.05"), ("1e2", "1", "100")],
)
def test_contract_value_is_an_exact_product(value: str, multiplier: str, wanted: str) -> None:
    """Plain text, no exponent."""
    assert contract_value(value, multiplier) == wanted


@pytest.mark.parametrize(("value", "multiplier"), [("0", "1"), ("1", "0.0"), ("x", "1"), ("1", "")])
def test_contract_values_must_be_positive(value: str, multiplier: str) -> None:
    """Zero would make every size vanish."""
    with pytest.raises(NotANumberError):
        contract_value(value, multiplier)


def test_an_unknown_contract_is_told_with_the_line_to_add(tmp_path: Path) -> None:
    """Status 65, the file, and lines that can be pasted and then are accepted."""
    odd = Instrument("okx", "perps", "ODD-USDT-SWAP")
    error = unknown_contract(odd, tmp_path, "raw/x.jsonl byte 17")
    assert error.status == 65
    for word in ("instruments.toml", "raw/x.jsonl byte 17", odd.key):
        assert word in error.message
    pasted = "\n".join(line.strip() for line in error.message.split("\n")[1:])
    assert contract_of(odd, own(tmp_path, pasted), tmp_path).value == "0.01"
