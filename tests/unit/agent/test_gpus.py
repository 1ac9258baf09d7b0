"""What nvidia-smi and rocm-smi print, as GPUs."""

import pytest

from ollama_fleet.agent.gpus import Gpu, Gpus, Unreadable, mig, nvidia, registered, rocm

GIB, MIB = 2**30, 2**20


@pytest.mark.parametrize(
    ("text", "found", "divided"),
    [
        ("", [], False),
        (
            "NVIDIA GeForce RTX 4090, 24564, [N/A]\nNVIDIA GeForce RTX 4090, 24564, [N/A]\n",
            [Gpu("NVIDIA GeForce RTX 4090", 24564 * MIB)] * 2,
            False,
        ),
        (
            "NVIDIA H100 80GB HBM3, 81559, Enabled\nNVIDIA H100 80GB HBM3, 81559, Disabled\n",
            [Gpu("NVIDIA H100 80GB HBM3", 81559 * MIB)] * 2,
            True,
        ),
        ("Tesla K80, 11441\r\n", [Gpu("Tesla K80", 11441 * MIB)], False),
        ("NVIDIA GB10, [N/A], [N/A]\n", [Gpu("NVIDIA GB10", None)], False),
        ("[Unknown Error], [Unknown Error], [N/A]\n", [Gpu("NVIDIA GPU", None)], False),
        ("[GPU is lost], [GPU is lost], [GPU is lost]\n", [Gpu("NVIDIA GPU", None)], False),
        ("Quadro P400, [Not Supported], [N/A]", [Gpu("Quadro P400", None)], False),
        ("Tesla T4, 15360 MiB, [N/A]", [Gpu("Tesla T4", 15 * GIB)], False),
    ],
)
def test_nvidia(text: str, found: list[Gpu], divided: bool) -> None:
    assert nvidia(text) == (found, divided)


def test_what_is_no_csv_is_refused() -> None:
    with pytest.raises(Unreadable, match="something else"):
        nvidia("something else\n")


MIG = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>550.54.15</driver_version>
  <attached_gpus>2</attached_gpus>
  <gpu id="00000000:07:00.0">
    <product_name>NVIDIA A100-SXM4-40GB</product_name>
    <mig_mode><current_mig>Enabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode>
    <mig_devices>
      <mig_device><index>0</index>
        <fb_memory_usage><total>19968 MiB</total><used>12 MiB</used></fb_memory_usage></mig_device>
      <mig_device><index>1</index>
        <fb_memory_usage><total>9856 MiB</total><used>12 MiB</used></fb_memory_usage></mig_device>
    </mig_devices>
    <fb_memory_usage><total>40960 MiB</total><used>36 MiB</used></fb_memory_usage>
  </gpu>
  <gpu id="00000000:08:00.0">
    <product_name>NVIDIA A100-SXM4-40GB</product_name>
    <mig_mode><current_mig>Disabled</current_mig></mig_mode>
    <mig_devices>None</mig_devices>
    <fb_memory_usage><total>40960 MiB</total></fb_memory_usage>
  </gpu>
</nvidia_smi_log>
"""


def test_a_divided_gpu_is_its_instances() -> None:
    assert mig(MIG) == [
        Gpu("NVIDIA A100-SXM4-40GB MIG", 19968 * MIB),
        Gpu("NVIDIA A100-SXM4-40GB MIG", 9856 * MIB),
        Gpu("NVIDIA A100-SXM4-40GB", 40960 * MIB),
    ]
    with pytest.raises(Unreadable):
        mig("Failed to initialize NVML")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("WARNING: No AMD GPUs specified\n", []),
        (
            'WARNING: AMD GPU device(s) is/are in a low-power state.\n\n{"card0": '
            '{"VRAM Total Memory (B)": "25753026560", "VRAM Total Used Memory (B)": "27 MB", '
            '"Card Series": "Navi 31 [Radeon RX 7900 XTX]", "Card Model": "0x744c", '
            '"Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]", "GFX Version": "gfx1100"}}\n',
            [Gpu("Navi 31 [Radeon RX 7900 XTX]", 25753026560)],
        ),
        (
            '{"card0": {"Card series": "Arcturus GL-XL", "VRAM Total Memory (B)": "34342961152"},'
            ' "card1": {"Card series": "N/A", "Card model": "0x740c", '
            '"VRAM Total Memory (B)": "N/A"}, "system": {"Driver version": "6.3.6"}}',
            [Gpu("AMD Arcturus GL-XL", 34342961152), Gpu("AMD GPU", None)],
        ),
    ],
)
def test_rocm(text: str, found: list[Gpu]) -> None:
    assert rocm(text) == found


def test_json_that_ends_early_is_refused() -> None:
    with pytest.raises(Unreadable):
        rocm('{"card0": {"Card series"')


@pytest.mark.parametrize(
    ("sizes", "memory", "count"),
    [
        ([24], 24, 1),
        ([24, 24], 24, 2),
        ([2, 24], 24, 1),  # one for the screen
        ([24, 8], 24, 1),
        ([24, 24, 8], 24, 2),
        ([24, 16], 16, 2),
        ([None], None, 1),
        ([None, None], None, 2),
        ([None, 8], 8, 1),
    ],
)
def test_how_gpus_that_differ_are_registered(
    sizes: list[int | None], memory: int | None, count: int
) -> None:
    found = registered(Gpu("x", None if size is None else size * GIB) for size in sizes)
    assert found == Gpus("x", None if memory is None else memory * GIB, count)


def test_no_gpu_is_none() -> None:
    assert registered([]) is None


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        (Gpus("Tesla T4", 15 * GIB, 1), "Tesla T4, 15 GiB"),
        (Gpus("NVIDIA L4", 24 * GIB, 2), "2 × NVIDIA L4, 24 GiB each"),
        (Gpus("NVIDIA GB10", None, 1), "NVIDIA GB10, memory not told"),
    ],
)
def test_what_the_log_says_of_them(gpus: Gpus, told: str) -> None:
    assert str(gpus) == told
