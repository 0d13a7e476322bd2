"""An instrument: its name, where its files lie, and how its sizes become base units."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pipeline.errors import DataError, UsageError
from pipeline.exact import EXACT, NotANumberError, decimal_text, parse_decimal, scaled

CONTRACTS_FILE = "instruments.toml"
EQUITIES = "equities"
CRYPTO = frozenset(("perps", "spot"))
TAPES = frozenset((EQUITIES,))
_ROW_MARKETS = {"perps": "perp", EQUITIES: "equity"}
_CONTRACT_DECIMALS = 12


@dataclass(frozen=True, slots=True, order=True)
class Instrument:
    """One instrument of one exchange; `market` is the folder's word: perps, spot or equities."""

    exchange: str
    market: str
    inst_id: str

    @property
    def key(self) -> str:
        """The name used in settings: `okx/perps/BTC-USDT-SWAP`."""
        return f"{self.exchange}/{self.market}/{self.inst_id}"

    @property
    def row_market(self) -> str:
        """The word rows use: `perp` for the folder `perps`, `equity` for `equities`."""
        return _ROW_MARKETS.get(self.market, self.market)

    @property
    def options(self) -> str:
        """The command-line options that name this instrument."""
        return f"-i {self.inst_id} --exchange {self.exchange} --market {self.market}"


@dataclass(frozen=True, slots=True)
class Contract:
    """What one unit of raw size stands for.

    kind "base": sizes are base units already. "linear": one contract is `value` base units.
    "inverse": one contract is `value` units of quote currency (US dollars).
    """

    kind: Literal["base", "linear", "inverse"] = "base"
    value: str = "1"
    tick: str | None = None
    lot: str | None = None


BASE = Contract()


@cache
def packaged_table() -> dict[str, dict[str, str]]:
    """The contract table that ships with the package."""
    text = resources.files("pipeline").joinpath(CONTRACTS_FILE).read_text(encoding="utf-8")
    return tomllib.loads(text)


def load_table(vault: Path) -> dict[str, dict[str, str]]:
    """The packaged table with the vault's own `instruments.toml` laid over it.

    Raises:
        UsageError: the vault's file is not valid TOML or an entry is not a table.
    """
    path = vault / CONTRACTS_FILE
    if not path.is_file():
        return packaged_table()
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", f"edit {path}") from error
    for key, entry in own.items():
        if not isinstance(entry, dict):
            message = f'{path}: "{key}" must be a table such as ["okx/perps/BTC-USDT-SWAP"]'
            raise UsageError(message, f"edit {path}")
    return {**packaged_table(), **own}


def contract_of(instrument: Instrument, table: dict[str, dict[str, str]], vault: Path) -> Contract:
    """Look up how raw sizes of an instrument become base units.

    Spot sizes and USD-margined Binance sizes are base units by definition. For the rest the
    table must say; `value` stays empty when it does not, and only a record that carries its own
    contract size can then be read (see `require`).
    """
    entry = table.get(instrument.key, {})
    tick, lot = entry.get("tick"), entry.get("lot")
    if not _trades_in_contracts(instrument):
        return Contract("base", "1", tick, lot)
    if "ctVal" not in entry:
        return Contract("linear", "", tick, lot)
    path = vault / CONTRACTS_FILE
    kind = entry.get("ctType", "linear")
    if kind not in ("linear", "inverse"):
        message = f'{path}: ctType of "{instrument.key}" is {kind!r}, not "linear" or "inverse"'
        raise UsageError(message, f"edit {path}")
    try:
        value = contract_value(str(entry["ctVal"]), str(entry.get("ctMult", "1")))
    except NotANumberError as error:
        message = f'{path}: ctVal or ctMult of "{instrument.key}" is not a positive decimal'
        raise UsageError(message, f"edit {path}") from error
    return Contract("inverse" if kind == "inverse" else "linear", value, tick, lot)


def contract_value(ct_val: str, ct_mult: str) -> str:
    """ctVal x ctMult as plain text.

    Raises:
        NotANumberError: not positive decimals, or a product of more than 18 digits or 12 decimals.
    """
    product = EXACT.multiply(scaled(*parse_decimal(ct_val)), scaled(*parse_decimal(ct_mult)))
    if product == 0:
        raise NotANumberError("number")
    text = format(product.normalize(EXACT), "f")
    digits, decimals = parse_decimal(text)
    if decimals > _CONTRACT_DECIMALS or decimal_text(digits, decimals) != text:
        raise NotANumberError("precision")
    return text


def unknown_contract(instrument: Instrument, vault: Path, where: str) -> DataError:
    """The error for a size in contracts whose contract size nobody told us."""
    path = vault / CONTRACTS_FILE
    line = f'["{instrument.key}"]\\nctVal = "0.01"\\nctMult = "1"\\nctType = "linear"'
    return DataError(
        f"{instrument.key}: sizes at {where} are in contracts and the contract size is not known; "
        f"add to {path} (with the exchange's own figures):\n"
        + "\n".join(f"    {part}" for part in line.split("\\n")),
        f"edit {path}, then run the same command again",
    )


_QUOTES = (
    *("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDP", "USD1", "USDE", "IDRT", "BIDR", "AEUR"),
    *("EURI", "DOGE", "USD", "EUR", "GBP", "JPY", "AUD", "BRL", "TRY", "RUB", "UAH", "PLN", "RON"),
    *("ZAR", "NGN", "ARS", "MXN", "COP", "CZK", "KRW", "DAI", "VAI", "PAX", "BTC", "ETH", "BNB"),
    *("TRX", "XRP", "DOT"),
)
"""What exchanges without a dash in their names quote in, the longest first."""
_QUOTES_OF_CONTRACTS = ("USDT", "USDC", "USD")
_SHORTEST = {"BUSD": 3, "TUSD": 3}
"""How long a coin is at least before these: BNBUSD and DOTUSD are BNB and DOT in USD."""
_KINDS = ("PERP", "PERPETUAL", "SWAP", "FUTURES")
_VENUE_PREFIXES = ("PI", "PF", "FI", "FF")
_MONTH = re.compile(r"(?<=[A-Z]{3})[FGHJKMNQUVXZ][0-9]{2}$")
_ALIASES = {"XBT": "BTC"}


def coin_of(inst_id: str) -> str:
    """The coin an instrument is about: `BTC` of BTC-USDT-SWAP, BTCUSDT_240927 and BTCUSD_PERP."""
    return pair_of(inst_id)[0]


def pair_of(inst_id: str) -> tuple[str, str]:
    """Coin and quote currency of an instrument, as far as its name tells them; "" if it does not.

    A coin is named as the exchange names it: a contract on a thousand of them is on `1000SHIB`.
    """
    head, *dashed = inst_id.upper().split("-")
    name, *tail = head.split("_")
    if name in _VENUE_PREFIXES and tail:
        name, *tail = tail
    given = tail if tail and tail[0] in _QUOTES else dashed
    if given:  # BTC-USDT-SWAP, BTC_USDT, BTC_USDC-PERPETUAL, BTC-240927-60000-C
        quote = given[0].partition("_")[0]
        is_currency = quote.isalpha() and quote not in _KINDS
        return _ALIASES.get(name, name), quote if is_currency else ""
    pair = _MONTH.sub("", name)
    quotes = _QUOTES_OF_CONTRACTS if tail else _QUOTES
    quote = next((each for each in quotes if _is_quoted(pair, each)), "")
    coin = pair.removesuffix(quote or "PERP") or pair
    return _ALIASES.get(coin, coin), quote


def _is_quoted(pair: str, quote: str) -> bool:
    return pair.endswith(quote) and len(pair) - len(quote) >= _SHORTEST.get(quote, 1)


def _trades_in_contracts(instrument: Instrument) -> bool:
    if instrument.market == "spot":
        return False
    if instrument.exchange in ("okx", "sim"):
        return True
    return instrument.exchange == "binance" and "_" in instrument.inst_id
