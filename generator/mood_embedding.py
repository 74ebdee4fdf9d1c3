"""Moods as both UNets take them: one row of a learned table, or a mixture of rows."""

from torch import Tensor, nn

from generator.moods import MOODS

NO_MOOD = len(MOODS)  #: the row that means "any mood": dropped in training, used by guidance


class MoodEmbedding(nn.Embedding):
    """A row a mood, and one for none."""

    def __init__(self, size: int) -> None:
        super().__init__(len(MOODS) + 1, size)

    def forward(self, mood: Tensor) -> Tensor:
        """Embed.

        Args:
            mood: [batch], whole numbers, rows; or [batch, moods + 1], how much of each row, adding up to 1.

        Returns:
            [batch, size]
        """
        if mood.dim() == 1:
            return super().forward(mood)
        # Not a matrix product, which autocast would round: all of one row is that row, to the bit.
        return (mood[:, :, None] * self.weight).sum(1)
