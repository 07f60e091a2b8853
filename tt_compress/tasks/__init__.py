"""What differs between problems: batches, loss, decoding, evaluation."""

from tt_compress.tasks import base, classification, translation

TASKS: dict[str, type[base.Task]] = {
  'classification': classification.Classification,
  'translation': translation.Translation,
}
