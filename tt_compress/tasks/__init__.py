"""Tasks: batches, loss, decoding and evaluation of a problem."""

from tt_compress.tasks import (
  base,
  click_through,
  image_classification,
  language_modeling,
  question_answering,
  summarization,
  text_classification,
  translation,
)

TASKS: dict[str, type[base.Task]] = {
  'classification': image_classification.ImageClassification,
  'click_through': click_through.ClickThrough,
  'language_modeling': language_modeling.LanguageModeling,
  'question_answering': question_answering.QuestionAnswering,
  'summarization': summarization.Summarization,
  'text_classification': text_classification.TextClassification,
  'translation': translation.Translation,
}
