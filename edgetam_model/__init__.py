"""EdgeTAM: segment what is clicked, and follow it through a video."""
