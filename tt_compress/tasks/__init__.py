"""What differs between problems: batches, loss, decoding, evaluation."""

from tt_compress.tasks import translation

TASKS = {'translation': translation.Translation}
