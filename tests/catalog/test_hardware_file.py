"""Hardware files in BLIS JSON form: what is accepted and what is said when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from blis_sim.catalog.hardware_file import read_hardware_file
from blis_sim.catalog.paths import configs_dir
from blis_sim.errors import CatalogError


def write(folder: Path, text: str) -> Path:
    path = folder / "hw.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_in_any_case(tmp_path: Path) -> None:
    """All keys of the format are read, whatever their case."""
    text = """{"X": {"TFLOPSPEAK": 1, "bwpeaktbs": 2, "BwEffConstant": 0.3, "MfuPrefill": 0.4,
        "MFUDECODE": 0.5, "PerLayerOverhead": 6, "tOverheadMicros": 7, "AllReduceLatency": 8,
        "memorygib": 9, "tpScalingExponent": 0.9, "prefillBwFactor": 1.1,
        "decodeBwFactor": 1.2}}"""
    (entry,) = read_hardware_file(write(tmp_path, text))
    assert entry.name == "X"
    assert entry.values == {
        "peak_tflops": 1,
        "bandwidth_tb_per_s": 2,
        "bandwidth_efficiency": 0.3,
        "mfu_prefill": 0.4,
        "mfu_decode": 0.5,
        "per_layer_overhead_us": 6,
        "fixed_overhead_us": 7,
        "allreduce_us": 8,
        "memory_gib": 9,
        "tp_scaling_exponent": 0.9,
        "prefill_bw_factor": 1.1,
        "decode_bw_factor": 1.2,
    }


def test_second_spelling_of_the_efficiency(tmp_path: Path) -> None:
    """bwEfficiencyFactor is BwEffConstant; both at once are an error."""
    (entry,) = read_hardware_file(write(tmp_path, '{"X": {"bwEfficiencyFactor": 0.8}}'))
    assert entry.values == {"bandwidth_efficiency": 0.8}
    both = write(tmp_path, '{"X": {"bwEfficiencyFactor": 0.8, "BwEffConstant": 0.8}}')
    with pytest.raises(CatalogError, match=r"must give bandwidth_efficiency once"):
        read_hardware_file(both)


def test_overheads_can_be_zero(tmp_path: Path) -> None:
    """No overhead is a possible overhead."""
    (entry,) = read_hardware_file(write(tmp_path, '{"X": {"perLayerOverhead": 0}}'))
    assert entry.values == {"per_layer_overhead_us": 0}


def test_shipped_file_has_only_published_gpus() -> None:
    """The shipped file is readable and gives every v1 constant."""
    entries = read_hardware_file(configs_dir() / "hardware_config.json")
    assert [entry.name for entry in entries] == ["H100", "A100-SXM", "A100-80"]
    assert all(len(entry.values) == 9 for entry in entries)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  "H100": {"TFlopsPeak": }\n}', r"hw.json:2:26 must be valid JSON"),
        ("", r"hw.json:1:1 must be valid JSON"),
        ("[" * 100_000, r"hw.json must be valid JSON; got: nested too deeply"),
        ("[]", r"must be a JSON object of GPU name -> constants"),
        ("{}", r"with at least one GPU; got \{\}"),
        ('{\n "H100": 3}', r"hw.json:2: H100 must be a JSON object of constants.*got 3"),
        ('{"H100": {}, "h100": {}}', r"must name each GPU once; got 'h100' twice"),
        (
            '{"H100": {"mfuPrefill": 0.5,\n "MfuPrefill": 0.6}}',
            r"hw.json:2: H100 must hold each key once; got 'MfuPrefill' twice",
        ),
        (
            '{"H100": {\n"TFlopPeak": 900}}',
            r"hw.json:2: H100.TFlopPeak must be a known key.*nearest: TFlopsPeak",
        ),
        (
            '{"H100": {"TFlopsPeak": "900"}}',
            r"H100.TFlopsPeak must be a finite number > 0.*\"900\"",
        ),
        ('{"H100": {"TFlopsPeak": true}}', r"TFlopsPeak must be a finite number > 0.*got true"),
        ('{"H100": {"TFlopsPeak": null}}', r"TFlopsPeak must be a finite number > 0.*got null"),
        ('{"H100": {"BwPeakTBs": 0}}', r"BwPeakTBs must be a finite number > 0 \(TB/s\); got 0"),
        ('{"H100": {"BwPeakTBs": -1}}', r"BwPeakTBs must be a finite number > 0"),
        ('{"H100": {"BwPeakTBs": NaN}}', r"BwPeakTBs must be a finite number > 0.*got NaN"),
        ('{"H100": {"BwPeakTBs": 1e999}}', r"BwPeakTBs must be a finite number > 0"),
        ('{"H100": {"BwPeakTBs": ' + "9" * 400 + "}}", r"BwPeakTBs must be a finite number > 0"),
        ('{"H100": {"BwPeakTBs": ' + "9" * 5000 + "}}", r"hw.json must be valid JSON.*too long"),
        ('{"H100": {"mfuDecode": 1.2}}', r"mfuDecode must be a finite number > 0 and <= 1"),
        ('{"H100": {"allReduceLatency": -5}}', r"allReduceLatency must be a finite number >= 0"),
    ],
)
def test_bad_files_say_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    """Every class of mistake is one error with file, place and constraint."""
    with pytest.raises(CatalogError, match=message) as caught:
        read_hardware_file(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    """A file that is not there, a folder and bytes that are not text are named."""
    with pytest.raises(CatalogError, match=r"nothing.json must be a readable hardware file"):
        read_hardware_file(tmp_path / "nothing.json")
    with pytest.raises(CatalogError, match=r"must be a readable hardware file"):
        read_hardware_file(tmp_path)
    path = tmp_path / "hw.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(CatalogError, match=r"hw.json must be a readable .*not UTF-8 text"):
        read_hardware_file(path)
