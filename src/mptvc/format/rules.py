"""What the specification demands of a header, whether it is written or read."""

from mptvc.errors import FormatError
from mptvc.format.gain import MAX_GAIN
from mptvc.format.geometry import LoopShots, PatchShots, Shots, TileGrid
from mptvc.format.header import Header, VideoInfo

#: Largest width and height.
MAX_SIDE = 2**16
#: Largest clip with prediction, in frames.
MAX_CLIP = 4096
#: Where chunks start: faults in them are reported there.
_CHUNKS_AT = 132


def check_header(header: Header) -> None:
    """Check what the specification says of a header.

    Raises:
        FormatError: It breaks a rule.
    """
    _check_video(header.video)
    check_shots(header.shots, header.video.num_frames)
    geometry, num_clips = header.geometry, header.shots.num_clips
    require(1 <= header.num_levels <= 8, f"{header.num_levels} levels", 62)
    require(geometry.patch_size in (2, 4, 8, 16), f"patch size {geometry.patch_size}", 64)
    require((geometry.width, geometry.height) == (header.video.width, header.video.height), "the size", 16)
    for level, grid in enumerate(geometry.tiles):
        _check_tiles(grid, geometry.grid(level))
    require(len(header.index.entries) == 2 * header.num_levels * num_clips, "the index", _CHUNKS_AT)
    if header.gains:
        require(not isinstance(header.shots, LoopShots), "gains of clips that have one a slice", _CHUNKS_AT)
        fits = [len(level) for level in header.gains] == [num_clips] * header.num_levels
        require(fits and any(map(any, header.gains)), "the gains", _CHUNKS_AT)
        reach = max(max(map(abs, level)) for level in header.gains)
        require(reach <= MAX_GAIN, f"a gain of {reach}", _CHUNKS_AT)


def check_size(width: int, height: int, num_frames: int) -> None:
    """Check what the specification says of a video's size.

    Raises:
        FormatError: It breaks a rule.
    """
    require(1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE, f"size {width}x{height}", 16)
    require(1 <= num_frames < 2**32, f"{num_frames} frames", 24)


def _check_video(video: VideoInfo) -> None:
    check_size(video.width, video.height, video.num_frames)
    for ratio in (video.time_base, video.frame_rate, video.pixel_aspect):
        require(ratio > 0 and max(ratio.as_integer_ratio()) < 2**32, f"a ratio of {ratio}", 32)
    require(video.rotation in (0, 90, 180, 270), f"rotation {video.rotation}", 56)
    require(video.colour.range <= 2, f"colour range {video.colour.range}", 61)
    require(0 <= video.last_step < 2**32, f"a last frame of {video.last_step} ticks", _CHUNKS_AT)
    if steps := video.time_steps:
        require(len(steps) == video.num_frames and steps[0] == 0, "the time stamps", _CHUNKS_AT)


def check_shots(shots: Shots, num_frames: int) -> None:
    """Check what the specification says of shots and clips.

    Raises:
        FormatError: They break a rule.
    """
    clip = shots.clip_frames
    if isinstance(shots, PatchShots):
        patch = shots.patch_frames
        require(1 <= patch <= 16, f"{patch} frames in a patch", 63)
        require(patch <= clip <= 256 and clip % patch == 0, f"{clip} frames in a clip", 66)
    else:
        require(1 <= clip <= MAX_CLIP, f"{clip} frames in a clip", 66)
    fits = min(shots.lengths, default=0) > 0 and shots.num_frames == num_frames
    require(fits, "the shots", _CHUNKS_AT)


def _check_tiles(grid: TileGrid, tokens: tuple[int, int]) -> None:
    fits = all(
        count == 1 or (count >= 1 and size // count >= grid.margin >= 1)
        for count, size in zip((grid.rows, grid.columns), tokens, strict=True)
    )
    require(fits and grid.margin <= 256, f"tile grid {grid.rows}x{grid.columns}", _CHUNKS_AT)


def require(condition: bool, what: str, offset: int) -> None:
    """Raise a FormatError that names what is wrong and where, unless a condition holds."""
    if not condition:
        raise FormatError(f"the header is inconsistent: {what}", offset=offset)
