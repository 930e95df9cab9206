"""Recipe ⇄ YAML, strictly: an unknown key, a wrong type or a missing value is told, with the way out."""

from fenghuo.config.read import build_recipe as build_recipe
from fenghuo.config.read import dump_recipe as dump_recipe
from fenghuo.config.read import read_recipe as read_recipe
from fenghuo.config.recipe import Recipe as Recipe
from fenghuo.config.recipe import RecipeKey as RecipeKey
from fenghuo.config.recipe import recipe_keys as recipe_keys
from fenghuo.config.template import template as template
from fenghuo.config.text import dump_yaml as dump_yaml
from fenghuo.config.text import read_yaml as read_yaml
